-- Take over entries of one stream whose lease has expired. KEYS: stream. ARGV: group, consumer, least
-- idle time in ms, how many at most, suspects (0: only entries that are none; 1: only those).
-- Returns {id, deliveries, fields} each; no fields when the body is gone, which is acknowledged here.
-- An entry that has been handed out twice before is a suspect. The whole range is walked, in pages,
-- because any number of suspects may lie before the first innocent.
local group, consumer, min_idle = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, suspects = tonumber(ARGV[4]), ARGV[5] == '1'
local page, start, claimed = 100, '-', {}
while #claimed < limit do
  local pending
  if min_idle > 0 then
    pending = redis.call('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], start, '+', page)
  else
    pending = redis.call('XPENDING', KEYS[1], group, start, '+', page)
  end
  for _, entry in ipairs(pending) do
    local id, deliveries = entry[1], entry[4]
    if #claimed < limit and (deliveries >= 2) == suspects then
      -- Redis 6.2 returns a null for an entry without a body, 7.0 drops it and returns nothing.
      local body = redis.call('XCLAIM', KEYS[1], group, consumer, 0, id)[1]
      if body then
        claimed[#claimed + 1] = {id, deliveries + 1, body[2]}
      else
        redis.call('XACK', KEYS[1], group, id)
        claimed[#claimed + 1] = {id, deliveries + 1, {}}
      end
    end
  end
  if #pending < page then break end
  start = '(' .. pending[#pending][1]
end
return claimed
