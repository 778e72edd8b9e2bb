-- Move due retries to the redo stream, by Redis's own clock. KEYS: retry set, redo stream.
-- ARGV: how many at most. Returns ms until the next one is due, or -1 when there is none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, record in ipairs(due) do
  redis.call('XADD', KEYS[2], '*', 'r', record)
  redis.call('ZREM', KEYS[1], record)
end
local following = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #following == 0 then return -1 end
return math.max(0, tonumber(following[2]) - now)
