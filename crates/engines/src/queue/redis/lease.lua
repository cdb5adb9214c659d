-- Takes jobs and records their leases; returns how many were delayed ones, then those as records, then elements.
-- KEYS: list, delayed, the owner's leases, their ends, owners, known
-- ARGV: wanted, call, owner, end of the lease, now, whether delayed jobs get the odd one, limit of a payload, its cut,
--   what an owner's name is put behind to make the key of its leases
--
-- Nothing is recorded before something is removed: with no memory left Redis refuses a script's first write if it may
-- need memory, and none after a removal. So a full Redis can be drained.

local FIRST_ELEMENT = 1024
local wanted, limit = tonumber(ARGV[1]), tonumber(ARGV[7])

-- A key of another type must stop the script before it has taken anything.
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
redis.call('SCARD', KEYS[6])

local due = {}
if redis.call('ZCARD', KEYS[2]) > 0 then
  due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[5], 'LIMIT', 0, wanted)
end
-- Half for each, so that jobs which come again and again do not hold up new ones.
local from_due = math.min(#due, math.floor((wanted + tonumber(ARGV[6])) / 2))
local asked = wanted - from_due
local elements = {}
if asked > 0 then
  elements = redis.call('RPOP', KEYS[1], asked) or {}
end
from_due = math.min(#due, wanted - #elements)
if from_due > 0 then
  redis.call('ZREM', KEYS[2], unpack(due, 1, from_due))
end

local reply, leases, ends, size = { from_due }, {}, {}, 0
local function lease(position, job)
  local claim = ARGV[2] .. ':' .. position
  size = size + 1
  leases[size * 2 - 1], leases[size * 2] = claim, job
  ends[size * 2 - 1], ends[size * 2] = claim, ARGV[4]
  if #job > limit then
    job = string.sub(job, 1, ARGV[8])
  end
  reply[size + 1] = job
end
for n = 1, from_due do
  lease(n, due[n])
end
for n = 1, #elements do
  lease(FIRST_ELEMENT + n, elements[n])
end
if size > 0 then
  redis.call('HSET', KEYS[3], unpack(leases))
  redis.call('HSET', KEYS[4], unpack(ends))
  redis.call('ZADD', KEYS[5], 'LT', ARGV[4], ARGV[3])
end

-- With an empty list every known id is that of a delayed or leased job. More of them: somebody else took elements or
-- removed the list, and what is known too much could never be pushed again.
if #elements < asked then
  local known = redis.call('SCARD', KEYS[6]) - redis.call('ZCARD', KEYS[2])
  if known > 0 then
    for _, owner in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
      known = known - redis.call('HLEN', ARGV[9] .. owner)
    end
  end
  if known > 0 then
    redis.call('UNLINK', KEYS[6])
  end
end
return reply
