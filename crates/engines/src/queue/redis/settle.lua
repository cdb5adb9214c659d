-- Ends leases with a result; returns the positions of stale claims, acknowledged ones first.
-- KEYS: delayed, the owner's leases, their ends, known
-- ARGV: owner; number of acknowledged jobs, their claims, their ids; then claim and due time of each that comes again

-- First of all, so that a key of another type stops the script before it has removed anything.
redis.call('ZCARD', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('SCARD', KEYS[4])

local acked = tonumber(ARGV[2])
local stale = {}
if acked > 0 then
  if redis.call('HDEL', KEYS[3], unpack(ARGV, 3, acked + 2)) == acked then
    redis.call('HDEL', KEYS[2], unpack(ARGV, 3, acked + 2))
    redis.call('SREM', KEYS[4], unpack(ARGV, acked + 3, acked * 2 + 2))
  else
    -- Some are stale: the leases still tell which.
    for n = 1, acked do
      if redis.call('HDEL', KEYS[2], ARGV[n + 2]) == 1 then
        redis.call('SREM', KEYS[4], ARGV[acked + n + 2])
      else
        stale[#stale + 1] = n
      end
    end
  end
end

local delayed = {}
for i = acked * 2 + 3, #ARGV, 2 do
  local job = redis.call('HGET', KEYS[2], ARGV[i])
  if job then
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('HDEL', KEYS[3], ARGV[i])
    delayed[#delayed + 1] = ARGV[i + 1]
    delayed[#delayed + 1] = again(job, ARGV[i], ARGV[1], 0)
  else
    stale[#stale + 1] = acked + (i - acked * 2 - 1) / 2
  end
end
if #delayed > 0 then
  redis.call('ZADD', KEYS[1], unpack(delayed))
end
return stale
