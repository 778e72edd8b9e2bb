-- Remove the consumer if nothing of its own is pending: XGROUP DELCONSUMER destroys pending entries,
-- so that the check and the removal are one step. KEYS: stream. ARGV: group, consumer. Returns 1 when
-- it is gone.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
