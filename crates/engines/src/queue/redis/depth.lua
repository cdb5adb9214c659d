-- How full a lane is: visible now, visible later, leased.
-- KEYS: list, delayed, owners
-- ARGV: now, what an owner's name is put behind to make the key of its leases
local due, leased = redis.call('ZCOUNT', KEYS[2], '-inf', ARGV[1]), 0
for _, owner in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  leased = leased + redis.call('HLEN', ARGV[2] .. owner)
end
return { redis.call('LLEN', KEYS[1]) + due, redis.call('ZCARD', KEYS[2]) - due, leased }
