-- Answers questions about the tables as of one moment. Writes nothing.
-- ARGV from 4: 'get' table field | 'all' table | 'page' index table low high limit 'up'|'down'

local no = refused()
if no then return no end
local found = {}
local at = 4
while at <= #ARGV do
  local what, key = ARGV[at], KEYS[tonumber(ARGV[at + 1])]
  if what == 'get' then
    found[#found + 1] = redis.call('HGET', key, ARGV[at + 2])
    at = at + 3
  elseif what == 'all' then
    found[#found + 1] = redis.call('HGETALL', key)
    at = at + 2
  else
    local rows, low, high, limit = KEYS[tonumber(ARGV[at + 2])], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    local ids
    if ARGV[at + 6] == 'up' then
      ids = redis.call('ZRANGEBYLEX', key, low, high, 'LIMIT', 0, limit)
    else
      ids = redis.call('ZREVRANGEBYLEX', key, high, low, 'LIMIT', 0, limit)
    end
    local page = {}
    for _, id in ipairs(ids) do
      page[#page + 1] = id
      page[#page + 1] = redis.call('HGET', rows, id)
    end
    found[#found + 1] = page
    at = at + 7
  end
end
return {'ok', string.format('%.0f', count_of('commits')), clock(), found}
