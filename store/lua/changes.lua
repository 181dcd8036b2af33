-- What was published after a number. ARGV[4] the number of the index of changes, ARGV[5] the cursor.

local no = refused()
if no then return no end
local last, cursor = count_of('shared'), tonumber(ARGV[5])
local found = {}
if last ~= cursor then
  if cursor > last then cursor = 0 end -- the store was replaced by an older one
  local members = redis.call('ZRANGEBYSCORE', KEYS[tonumber(ARGV[4])], string.format('(%.0f', cursor), '+inf')
  for _, member in ipairs(members) do
    local table_number, field = string.match(member, '^(%d+):(.*)$')
    local row = redis.call('HGET', KEYS[tonumber(table_number)], field)
    if row then
      found[#found + 1] = table_number
      found[#found + 1] = row
    end
  end
end
local directory, commits = count_of('directory'), count_of('commits')
return {'ok', string.format('%.0f', commits), string.format('%.0f', directory), string.format('%.0f', last), found}
