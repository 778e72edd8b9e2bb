-- Remove the consumers that have nothing pending: XGROUP DELCONSUMER destroys pending entries, so that
-- the check and the removal are one step. KEYS: stream. ARGV: group, consumers. Returns how many are
-- gone, those included that were not there.
local gone = 0
for index = 2, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[index]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[index])
    gone = gone + 1
  end
end
return gone
