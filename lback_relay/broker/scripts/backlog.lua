-- Count what one group of one signal has before it. KEYS: stream, redo stream, retry set, dead stream.
-- ARGV: group. Returns waiting, pending, retrying, dead.
local function group_of(stream)
  if redis.call('EXISTS', stream) == 0 then return nil end
  for _, fields in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = {}
    for index = 1, #fields, 2 do info[fields[index]] = fields[index + 1] end
    if info['name'] == ARGV[1] then return info end
  end
  return nil
end

-- What has been delivered and not trimmed yet is a small part, where workers trim.
local function delivered(last)
  local count, start = 0, '-'
  while true do
    local page = redis.call('XRANGE', KEYS[1], start, last, 'COUNT', 500)
    count = count + #page
    if #page < 500 then return count end
    start = '(' .. page[#page][1]
  end
end

local waiting, pending = redis.call('XLEN', KEYS[1]), 0
local events = group_of(KEYS[1])
if events then
  pending = events['pending']
  -- Redis 7.0 keeps this count; it does not know it after entries were deleted.
  waiting = tonumber(events['lag'] or nil) or waiting - delivered(events['last-delivered-id'])
end
local retrying = redis.call('ZCARD', KEYS[3])
local redo = group_of(KEYS[2])
if redo then
  pending = pending + redo['pending']
  retrying = retrying + redis.call('XLEN', KEYS[2]) - redo['pending']
end
return {waiting, pending, retrying, redis.call('XLEN', KEYS[4])}
