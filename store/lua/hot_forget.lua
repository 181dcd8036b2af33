-- Removes records that are still as the caller read them; how many.
-- KEYS: values, order.  ARGV: pairs of field and value.
local gone = 0
for at = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1] then
    redis.call('HDEL', KEYS[1], ARGV[at])
    redis.call('ZREM', KEYS[2], ARGV[at])
    gone = gone + 1
  end
end
return gone
