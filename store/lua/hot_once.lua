-- Ends runs under idempotency keys.
-- KEYS: one for each run.  ARGV: for each run: its token, then how long its key stays taken in ms (0: free at once).
for at, key in ipairs(KEYS) do
  local token, stay = ARGV[2 * at - 1], tonumber(ARGV[2 * at])
  local known = redis.call('GET', key)
  if stay > 0 and (not known or known == token) then
    redis.call('SET', key, token, 'PX', stay)
  elseif stay == 0 and known == token then
    redis.call('DEL', key)
  end
end
return 0
