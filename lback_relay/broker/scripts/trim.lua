-- Drop the entries that every group has settled. KEYS: stream. Returns how many. A stream without
-- groups keeps everything: what was sent before the first worker started is handled.
local function parse(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local keep_ms, keep_seq
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for index = 1, #fields, 2 do info[fields[index]] = fields[index + 1] end
  local ms, seq = parse(info['last-delivered-id'])
  seq = seq + 1
  if info['pending'] > 0 then
    local oldest_ms, oldest_seq = parse(redis.call('XPENDING', KEYS[1], info['name'])[2])
    if oldest_ms < ms or (oldest_ms == ms and oldest_seq < seq) then
      ms, seq = oldest_ms, oldest_seq
    end
  end
  if not keep_ms or ms < keep_ms or (ms == keep_ms and seq < keep_seq) then
    keep_ms, keep_seq = ms, seq
  end
end
if not keep_ms then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', keep_ms, keep_seq))
