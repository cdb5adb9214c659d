-- Lengthens leases; returns the positions of stale claims.
-- KEYS: the owner's leases, their ends
-- ARGV: new end of the lease, claims

-- Removed first and added again, since a full Redis refuses a script that begins with adding.
redis.call('HLEN', KEYS[1])
redis.call('HDEL', KEYS[2], unpack(ARGV, 2))
local stale, ends = {}, {}
for n = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[n]) == 1 then
    ends[#ends + 1] = ARGV[n]
    ends[#ends + 1] = ARGV[1]
  else
    stale[#stale + 1] = n - 1
  end
end
if #ends > 0 then
  redis.call('HSET', KEYS[2], unpack(ends))
end
return stale
