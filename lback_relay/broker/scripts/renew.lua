-- Renew the lease of each entry that still is this consumer's. KEYS: stream. ARGV: group, consumer,
-- entry ids. Returns the ids that are not its own any more. Without the check XCLAIM would steal
-- them back; without JUSTID it would count a delivery.
-- What was given back is nobody's, though its consumer is named still until the next claim: this
-- call may have been under way meanwhile, and would begin a lease that nobody uses. It is known by
-- its time, the first ms of 1970 (give_back.lua), with room for a clock that goes on in a script.
local time = redis.call('TIME')
local given_back = time[1] * 1000 + math.floor(time[2] / 1000) - 60000
local lost = {}
for index = 3, #ARGV do
  local id = ARGV[index]
  local owned = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if #owned == 0 or owned[1][3] >= given_back then
    lost[#lost + 1] = id
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
  end
end
return lost
