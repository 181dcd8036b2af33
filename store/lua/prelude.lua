-- What every script of the store begins with.
-- KEYS: the tables, always all of them in one order. KEYS[1] meta, KEYS[2] counters.
-- ARGV[1] the epoch that the caller knows, ARGV[2] the highest number of commits it has seen, ARGV[3] a clock for
-- tests or '' for the server's own.

local function clock()
  if ARGV[3] ~= '' then return ARGV[3] end
  local t = redis.call('TIME')
  return string.format('%d.%06d', tonumber(t[1]), tonumber(t[2]))
end

local function count_of(name)
  return tonumber(redis.call('HGET', KEYS[2], name) or '0')
end

-- A reply for a caller whose records are not these any more; nil when all is well.
local function refused()
  if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return {'lost'} end
  local commits = count_of('commits')
  if commits < tonumber(ARGV[2]) then return {'back', string.format('%.0f', commits)} end
  return nil
end
