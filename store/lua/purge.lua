-- Removes what is over, a bounded number at a time; how many, and whether there may be more.
-- ARGV[4] how long what is healthy is kept, ARGV[5] the most to remove of one kind. ARGV from 6: numbers of the tables
-- placements, their ends, documents, their ends, their names, health, changes.

local no = refused()
if no then return no end
local now, most = tonumber(clock()), ARGV[5]
local function key(at) return KEYS[tonumber(ARGV[at])] end
local function over(ends)
  return redis.call('ZRANGEBYSCORE', ends, '-inf', string.format('%.17g', now), 'LIMIT', 0, most)
end
local gone, more = 0, 0

for _, field in ipairs(over(key(7))) do
  gone = gone + redis.call('HDEL', key(6), field)
  redis.call('ZREM', key(7), field)
end
for _, field in ipairs(over(key(9))) do
  gone = gone + redis.call('HDEL', key(8), field)
  redis.call('ZREM', key(9), field)
  redis.call('ZREM', key(10), field)
end
if #over(key(7)) + #over(key(9)) > 0 then more = 1 end

local aged = now - tonumber(ARGV[4])
local health = redis.call('HGETALL', key(11))
for at = 1, #health, 2 do
  local updated, ends = string.match(health[at + 1], '^([^|]*)|([^|]*)|')
  if tonumber(updated) <= aged and tonumber(ends) <= aged then
    redis.call('HDEL', key(11), health[at])
    redis.call('ZREM', key(12), ARGV[11] .. ':' .. health[at])
    gone = gone + 1
  end
end
return {'ok', string.format('%.0f', count_of('commits')), gone, more}
