-- Takes jobs and records their leases; returns how many were delayed ones, then those as records, then elements; of one
-- whose payload is too long its beginning, and that length.
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

local function shown(jobs, last, reply, is_record)
  for n = 1, last do
    local job = jobs[n]
    local header = is_record and string.find(job, '\n', 1, true) or 0
    local length = #job - header
    reply[#reply + 1] = length > limit and { string.sub(job, 1, header + ARGV[8]), length } or job
  end
  return reply
end

-- A call that comes again, since its answer was lost on the way, gets what it took: to take more under the same claims
-- would overwrite the first ones.
local function held(first)
  local jobs = {}
  repeat
    local job = redis.call('HGET', KEYS[3], ARGV[2] .. ':' .. (first + #jobs))
    jobs[#jobs + 1] = job or nil
  until not job
  return jobs
end
local due, elements = held(1), held(FIRST_ELEMENT + 1)
if #due + #elements > 0 then
  return shown(elements, #elements, shown(due, #due, { #due }, true))
end

if redis.call('ZCARD', KEYS[2]) > 0 then
  due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[5], 'LIMIT', 0, wanted)
end
-- Half for each, so that jobs which come again and again do not hold up new ones.
local from_due = math.min(#due, math.floor((wanted + tonumber(ARGV[6])) / 2))
local asked = wanted - from_due
if asked > 0 then
  elements = redis.call('RPOP', KEYS[1], asked) or {}
end
from_due = math.min(#due, wanted - #elements)
if from_due > 0 then
  redis.call('ZREM', KEYS[2], unpack(due, 1, from_due))
end

local leases, ends = {}, {}
local function lease(position, job)
  local claim, at = ARGV[2] .. ':' .. position, #leases
  leases[at + 1], leases[at + 2] = claim, job
  ends[at + 1], ends[at + 2] = claim, ARGV[4]
end
for n = 1, from_due do
  lease(n, due[n])
end
for n = 1, #elements do
  lease(FIRST_ELEMENT + n, elements[n])
end
if #leases > 0 then
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
return shown(elements, #elements, shown(due, from_due, { from_due }, true))
