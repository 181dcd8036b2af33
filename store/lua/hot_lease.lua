-- What one process may count on, of limits that many processes share. Also its sign of life.
-- KEYS: members, then one hash for each limit: owner -> what it holds, '#' -> end of the window, '?' -> last want.
-- ARGV: owner, life of an owner in ms, length of a window in ms, then for each limit:
--   kind (w: requests of a window, s: streams), limit, used, kept (of what the owner holds, at least used),
--   need (at least so many more), wish (at most so many more), window (its end as the owner knows it in ms;
--   0: none, -1: one that the owner began alone).
-- Answer: living owners in order, then for each limit: {held, held by others, end, ms to the end, whether somebody goes
-- without (1), used (0 when that window is over)}.
-- The sum over all owners is never above the limit, unless owners say that they have used more already.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local me, life, length = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + life, me)
redis.call('PEXPIRE', KEYS[1], life * 10)
local alive, living = {}, redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(living)
for _, owner in ipairs(living) do
  alive[owner] = true
end
local answer = {living}
for at = 2, #KEYS do
  local key, first = KEYS[at], 4 + (at - 2) * 7
  local kind, limit = ARGV[first], tonumber(ARGV[first + 1])
  local used, kept = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  local need, wish = tonumber(ARGV[first + 4]), tonumber(ARGV[first + 5])
  local window = tonumber(ARGV[first + 6])
  local ends, others, wanted = 0, 0, 0
  local held = redis.call('HGETALL', key)
  for place = 1, #held, 2 do
    local field, value = held[place], tonumber(held[place + 1]) or 0
    if field == '#' then
      ends = value
    elseif field == '?' then
      wanted = value
    elseif field ~= me then
      if kind == 's' and not alive[field] then
        redis.call('HDEL', key, field)
      else
        others = others + value
      end
    end
  end
  if kind == 'w' then
    if window >= 0 and window <= now then
      used, kept = 0, 0 -- that window is over
    end
    if ends <= now then
      redis.call('DEL', key)
      others, wanted = 0, 0
      ends = window > now and window or now + length -- a window that was lost here goes on as its owner knows it
    end
  end
  kept = math.min(kept, math.max(used, limit - others))
  local room = math.max(0, limit - others - kept)
  local hungry = now - wanted < 2000
  local more = need
  if not hungry then
    more = math.max(need, math.min(wish, math.floor(room / (2 * #living))))
  end
  more = math.min(more, room)
  if more < need then
    redis.call('HSET', key, '?', now)
  end
  local total = kept + more
  if total > 0 then
    redis.call('HSET', key, me, total)
  else
    redis.call('HDEL', key, me)
  end
  if kind == 'w' then
    redis.call('HSET', key, '#', ends)
    redis.call('PEXPIREAT', key, ends)
  else
    redis.call('PEXPIRE', key, life * 6)
  end
  answer[#answer + 1] = {total, others, ends, ends > 0 and ends - now or 0, hungry and 1 or 0, used}
end
return answer
