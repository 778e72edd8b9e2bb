-- Return unstarted entries: delivered so long ago that any claim takes them, and with the delivery
-- that never happened taken off the count. KEYS: stream. ARGV: group, consumer, entry ids.
for index = 3, #ARGV do
  local id = ARGV[index]
  local owned = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if #owned > 0 then
    -- Not TIME 0, which newer servers take for "nobody's".
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'TIME', 1,
      'RETRYCOUNT', math.max(0, owned[1][4] - 1), 'JUSTID')
  end
end
return 1
