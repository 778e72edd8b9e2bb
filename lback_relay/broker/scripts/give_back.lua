-- Return unstarted entries: idle for so long that the next XAUTOCLAIM takes them, and with the
-- delivery that never happened taken off the count. KEYS: stream. ARGV: group, consumer, idle in ms,
-- entry ids.
for index = 4, #ARGV do
  local id = ARGV[index]
  local owned = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if #owned > 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3],
      'RETRYCOUNT', math.max(0, owned[1][4] - 1), 'JUSTID')
  end
end
return 1
