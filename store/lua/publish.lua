-- Stores health records and windows unless a later one is stored, and numbers those it stores.
-- ARGV[4] the number of the index of changes; from 5: table, field, time, row.

local no = refused()
if no then return no end
local changed = KEYS[tonumber(ARGV[4])]
local number = count_of('shared')
for at = 5, #ARGV, 4 do
  local key, field, stamp = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  local old = redis.call('HGET', key, field)
  if not old or tonumber(string.match(old, '^[^|]*')) <= tonumber(stamp) then
    number = number + 1
    redis.call('HSET', key, field, stamp .. '|' .. ARGV[at + 3])
    redis.call('ZADD', changed, string.format('%.0f', number), ARGV[at] .. ':' .. field)
  end
end
redis.call('HSET', KEYS[2], 'shared', string.format('%.0f', number))
return {'ok', string.format('%.0f', count_of('commits'))}
