-- Begins a store where nothing is. KEYS as ever; ARGV: field, value, ... of meta. 0 when something is there already.

for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then return 0 end
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
