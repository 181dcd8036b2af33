-- Upserts records; the later stamp wins, every write takes the next number.
-- KEYS: meta, values, order.  ARGV: generation to use if there is none, life in ms, most records,
-- then for each record: field, stamp, body.
redis.call('HSETNX', KEYS[1], 'gen', ARGV[1])
for at = 4, #ARGV, 3 do
  local field, stamp = ARGV[at], ARGV[at + 1]
  local new = stamp .. ' ' .. ARGV[at + 2]
  local known = redis.call('HGET', KEYS[2], field)
  local fresh = not known
  if known and known ~= new then
    fresh = tonumber(stamp) >= (tonumber(string.match(known, '^%S+')) or 0)
  end
  if fresh then
    redis.call('HSET', KEYS[2], field, new)
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[1], 'seq', 1), field)
  end
end
local over = redis.call('ZCARD', KEYS[3]) - tonumber(ARGV[3])
if over > 0 then
  for _, field in ipairs(redis.call('ZRANGE', KEYS[3], 0, over - 1)) do
    redis.call('HDEL', KEYS[2], field)
    redis.call('ZREM', KEYS[3], field)
  end
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[2])
end
return redis.call('HGET', KEYS[1], 'gen')
