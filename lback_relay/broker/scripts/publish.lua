-- Append and/or broadcast what lies beyond the producer's last accepted sequence number.
-- KEYS: stream, producer. ARGV: first sequence, queue (1/0), channel or "", max_backlog (0: none),
-- expiry of the producer key in ms, then the envelopes. Returns how many were new, or -1 when the
-- stream is full. Redis decides about memory at the script's first write and allows the others then,
-- so that a batch goes in as a whole or not at all. What can be refused comes before PUBLISH, which
-- can't be taken back.
local first = tonumber(ARGV[1])
local count = #ARGV - 5
local skip = math.max(0, tonumber(redis.call('GET', KEYS[2]) or '0') - first + 1)
if skip >= count then return 0 end
if ARGV[2] == '1' then
  local limit = tonumber(ARGV[4])
  if limit > 0 and redis.call('XLEN', KEYS[1]) >= limit then return -1 end
  for index = skip + 6, #ARGV do redis.call('XADD', KEYS[1], '*', 'e', ARGV[index]) end
end
redis.call('SET', KEYS[2], string.format('%.0f', first + count - 1), 'PX', ARGV[5])
if ARGV[3] ~= '' then
  for index = skip + 6, #ARGV do redis.call('PUBLISH', ARGV[3], ARGV[index]) end
end
return count - skip
