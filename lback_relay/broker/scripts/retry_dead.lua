-- Hand dead letters to their group's redo stream. KEYS: dead stream, redo stream. ARGV: group, then per
-- letter its id and the retry's record. Returns how many were still there: who else has retried or
-- dropped a letter has had it. XADD comes first: it is what Redis refuses at maxmemory, at the script's
-- first write, so that all of the letters are moved or none. The group begins at 0, so that nothing is
-- skipped whether it is made here or by a worker; made here, the backlog counts what waits.
local moved = 0
for index = 2, #ARGV, 2 do
  if #redis.call('XRANGE', KEYS[1], ARGV[index], ARGV[index]) > 0 then
    if moved == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
      redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[1], '0', 'MKSTREAM')
    end
    redis.call('XADD', KEYS[2], '*', 'r', ARGV[index + 1])
    redis.call('XDEL', KEYS[1], ARGV[index])
    moved = moved + 1
  end
end
return moved
