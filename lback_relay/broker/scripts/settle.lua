-- Settle one entry that ends in retries and dead letters, if it still is this consumer's.
-- KEYS: stream, retry set, dead stream. ARGV: group, consumer, entry id, redo (1/0), number of
-- retries, then per retry its delay in ms and record, then per dead letter its envelope and record.
-- Returns 1, or 0 when the entry belongs to another consumer now. A write that Redis refuses
-- (maxmemory) ends the script before XACK: the entry stays pending.
local owned = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #owned == 0 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index = 6
for _ = 1, tonumber(ARGV[5]) do
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[index])), ARGV[index + 1])
  index = index + 2
end
while index < #ARGV do
  redis.call('XADD', KEYS[3], '*', 'e', ARGV[index], 'd', ARGV[index + 1])
  index = index + 2
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] == '1' then redis.call('XDEL', KEYS[1], ARGV[3]) end
return 1
