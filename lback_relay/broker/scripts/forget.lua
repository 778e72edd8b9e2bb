-- Acknowledge entries of a redo stream and delete them: no other group reads it. KEYS: stream.
-- ARGV: group, entry ids. One script, because an entry that is deleted and still pending would come
-- back without its body, and one that is acknowledged and not deleted would stay for ever.
for index = 2, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[index])
  redis.call('XDEL', KEYS[1], ARGV[index])
end
return #ARGV - 1
