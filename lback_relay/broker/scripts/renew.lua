-- Renew the lease of each entry that still is this consumer's. KEYS: stream. ARGV: group, consumer,
-- entry ids. Returns the ids that are not its own any more. Without the check XCLAIM would steal
-- them back; without JUSTID it would count a delivery.
local lost = {}
for index = 3, #ARGV do
  local id = ARGV[index]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) == 0 then
    lost[#lost + 1] = id
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
  end
end
return lost
