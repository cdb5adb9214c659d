-- Ends leases without a result: those whose time is over, and those of dead owners; returns how many.
-- KEYS: delayed, owners
-- ARGV: now, most leases in one call, what an owner's name is put behind to make the keys of its leases and of their
--   ends, dead owners

-- First of all, so that a key of another type stops the script before it has removed anything.
redis.call('ZCARD', KEYS[1])

local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local ended = 0

local function reap(owner, is_dead)
  local ends = redis.call('HGETALL', ARGV[4] .. owner)
  local claims, earliest = {}, nil
  for i = 1, #ends, 2 do
    local time = tonumber(ends[i + 1])
    if (is_dead or time <= now) and ended < most then
      ended = ended + 1
      claims[#claims + 1] = ends[i]
    elseif not earliest or time < earliest then
      earliest = time
    end
  end
  if #claims > 0 then
    local jobs = redis.call('HMGET', ARGV[3] .. owner, unpack(claims))
    local delayed = {}
    for n, claim in ipairs(claims) do
      if jobs[n] then
        delayed[#delayed + 1] = ARGV[1]
        delayed[#delayed + 1] = again(jobs[n], claim, owner, 1)
      end
    end
    redis.call('HDEL', ARGV[3] .. owner, unpack(claims))
    redis.call('HDEL', ARGV[4] .. owner, unpack(claims))
    if #delayed > 0 then
      redis.call('ZADD', KEYS[1], unpack(delayed))
    end
  end
  -- When to look next. Removed first, since a full Redis refuses a script that begins with adding.
  redis.call('ZREM', KEYS[2], owner)
  if earliest then
    redis.call('ZADD', KEYS[2], string.format('%.0f', earliest), owner)
  end
end

for i = 5, #ARGV do
  reap(ARGV[i], true)
end
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])) do
  reap(owner, false)
end
return ended
