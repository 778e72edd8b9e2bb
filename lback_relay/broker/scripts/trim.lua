-- Drop the entries that every group has settled, but for groups that are absent. KEYS: stream, sorted
-- set of the groups by when they were last seen. ARGV: the group that asks ("": none), after how many
-- ms without being seen a group is absent (0: never), longest pause between two looks in ms. Returns
-- how many were dropped, how many of them an absent group had not settled, and each such group with
-- the ms since it was seen; an error where there is no stream. A stream without groups keeps everything:
-- what was sent before the first worker started is handled.
local own, ttl, pause = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function as_map(fields)
  local map = {}
  for index = 1, #fields, 2 do map[fields[index]] = fields[index + 1] end
  return map
end

local function parse(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return {tonumber(ms), tonumber(seq)}
end

local function earlier(one, other)
  return one[1] < other[1] or (one[1] == other[1] and one[2] < other[2])
end

-- The oldest id that a group has not settled.
local function needed(group)
  local following = parse(group['last-delivered-id'])
  following[2] = following[2] + 1
  if group['pending'] > 0 then
    local oldest = parse(redis.call('XPENDING', KEYS[1], group['name'])[2])
    if earlier(oldest, following) then return oldest end
  end
  return following
end

-- The nameless member says when somebody last looked. What lies between two looks beyond the longest
-- pause is nobody's absence: all were stopped, or the clock has jumped.
local records = ttl > 0 and as_map(redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')) or {}
local unwatched = math.max(0, now - tonumber(records[''] or now) - pause)

-- A group that nobody has seen yet is seen now. Its consumers, who may be none of the relay's, are
-- only asked when it would be absent: there may be thousands.
local function seen_at(name)
  if name == own or not records[name] then return now end
  local at = tonumber(records[name]) + unwatched
  if now - at > ttl then
    for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], name)) do
      at = math.max(at, now - as_map(fields)['idle'])
    end
  end
  return at
end

local function format(id) return string.format('%.0f-%.0f', id[1], id[2]) end

local keep, keep_for_all, absent = nil, nil, {}
local seen, noted = {string.format('%.0f', now), ''}, {[''] = true}
for _, fields in ipairs(groups) do
  local group = as_map(fields)
  local need, silent = needed(group), 0
  if ttl > 0 then
    local at = seen_at(group['name'])
    silent = now - at
    seen[#seen + 1], seen[#seen + 2] = string.format('%.0f', at), group['name']
    noted[group['name']] = true
  end
  if silent > ttl then
    absent[#absent + 1] = {group['name'], silent, need}
  elseif not keep or earlier(need, keep) then
    keep = need
  end
  if not keep_for_all or earlier(need, keep_for_all) then keep_for_all = need end
end

local dropped, missed = 0, 0
if keep then
  dropped = redis.call('XTRIM', KEYS[1], 'MINID', format(keep_for_all))
  if earlier(keep_for_all, keep) then missed = redis.call('XTRIM', KEYS[1], 'MINID', format(keep)) end
end
if ttl > 0 then
  -- Comes last and may be refused: at maxmemory room must be made all the same.
  redis.pcall('ZADD', KEYS[2], (unpack or table.unpack)(seen))
  for name in pairs(records) do
    if not noted[name] then redis.call('ZREM', KEYS[2], name) end
  end
end
local answer = {dropped + missed, missed}
if missed > 0 then
  for _, group in ipairs(absent) do
    if earlier(group[3], keep) then
      answer[#answer + 1] = group[1]
      answer[#answer + 1] = group[2]
    end
  end
end
return answer
