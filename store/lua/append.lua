-- Appends to the audit log, if nobody else has since the caller read its end.
-- ARGV from 4: numbers of the log, its head's table and the index of times; the head as it was read (or ''); the id of
-- the last record as it was read (or ''); the new head; the latest time before these records and the number of the
-- first, for the index (or '' and ''); then the rows: id, row.

local no = refused()
if no then return no end
local log, heads, times = KEYS[tonumber(ARGV[4])], KEYS[tonumber(ARGV[5])], KEYS[tonumber(ARGV[6])]
if (redis.call('HGET', heads, 'head') or '') ~= ARGV[7] then return {'moved'} end
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
if (last[1] and last[1][1] or '') ~= ARGV[8] then return {'moved'} end
for at = 12, #ARGV, 2 do
  redis.call('XADD', log, ARGV[at], 'row', ARGV[at + 1])
end
redis.call('HSET', heads, 'head', ARGV[9])
if ARGV[10] ~= '' then redis.call('ZADD', times, ARGV[10], ARGV[11]) end
return {'ok', string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'commits', 1))}
