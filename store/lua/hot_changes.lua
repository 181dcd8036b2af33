-- One page of what was written after a number.
-- KEYS: meta, values, order.  ARGV: generation to use if there is none, life in ms, the generation that the caller
-- knows, the number that it knows, most records of a page.
-- Answer: generation, last number, number for the next page (the last number when this page is the last), then
-- field and value (stamp, blank, body) of each record.
if redis.call('HSETNX', KEYS[1], 'gen', ARGV[1]) == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local gen = redis.call('HGET', KEYS[1], 'gen')
local last = tonumber(redis.call('HGET', KEYS[1], 'seq') or '0')
local since = tonumber(ARGV[4])
if since > last or (ARGV[3] ~= '' and ARGV[3] ~= gen) then
  since = 0
end
if since == last then
  return {gen, last, last}
end
local most = tonumber(ARGV[5])
local found = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. since, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local answer = {gen, last, last}
for at = 1, #found, 2 do
  answer[#answer + 1] = found[at]
  answer[#answer + 1] = redis.call('HGET', KEYS[2], found[at]) or ''
end
if #found == 2 * most then
  answer[3] = tonumber(found[#found])
end
return answer
