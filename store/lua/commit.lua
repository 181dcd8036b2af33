-- Writes, if what the caller decided upon still holds: fields have the values that it read, and it is not too late.
-- ARGV[4] a time before which this must happen, or ''. ARGV[5] how many expectations follow, each: table, field, and
-- 'v' with the value or '' for absent. Then operations, each: how many words after this one, command, table, words.

local no = refused()
if no then return no end
if ARGV[4] ~= '' and tonumber(ARGV[4]) <= tonumber(clock()) then return {'late'} end
local at = 6
for _ = 1, tonumber(ARGV[5]) do
  local found, wanted = redis.call('HGET', KEYS[tonumber(ARGV[at])], ARGV[at + 1]), ARGV[at + 2]
  if wanted == '' then
    if found then return {'moved'} end
  elseif found ~= string.sub(wanted, 2) then
    return {'moved'}
  end
  at = at + 3
end

-- Takes all that is hot and one account's: fields begin with its name in the encoding of the rows.
local function forget(key, changed, number, prefix)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, #prefix) == prefix then
      redis.call('HDEL', key, field)
      redis.call('ZREM', changed, number .. ':' .. field)
    end
  end
end

while at <= #ARGV do
  local words, command, key = tonumber(ARGV[at]), ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])]
  if command == 'TOUCH' then
    -- It rises with every change, and beyond what a server that lost its last writes had given out.
    local next_one = math.max(count_of('directory') + 1, math.floor(tonumber(clock()) * 1000))
    redis.call('HSET', key, 'directory', string.format('%.0f', next_one))
  elseif command == 'FORGET' then
    forget(key, KEYS[tonumber(ARGV[at + 3])], ARGV[at + 2], ARGV[at + 4])
  else
    local call = {command, key}
    for i = at + 3, at + words do call[#call + 1] = ARGV[i] end
    redis.call(unpack(call))
  end
  at = at + words + 1
end
return {'ok', string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'commits', 1))}
