-- Adds jobs whose ids are not in the lane; returns how many were new.
-- KEYS: list, delayed, known
-- ARGV: number of jobs for the list; for each id and payload; then for each of the others id, due time and record

-- First of all, so that a key of another type stops the script before it has written anything.
redis.call('LLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])

local listed = tonumber(ARGV[1])
local ids = {}
for i = 2, listed * 2, 2 do
  ids[#ids + 1] = ARGV[i]
end
for i = listed * 2 + 2, #ARGV, 3 do
  ids[#ids + 1] = ARGV[i]
end
-- All ids in one call, since a call costs more than what it does here.
local is_known = redis.call('SMISMEMBER', KEYS[3], unpack(ids))
local new, elements, delayed = {}, {}, {}
for n, id in ipairs(ids) do
  if is_known[n] == 0 then
    new[#new + 1] = id
    if n <= listed then
      elements[#elements + 1] = ARGV[n * 2 + 1]
    else
      local at = listed * 2 + 2 + (n - listed - 1) * 3
      delayed[#delayed + 1] = ARGV[at + 1]
      delayed[#delayed + 1] = ARGV[at + 2]
    end
  end
end
if #new > 0 then
  redis.call('SADD', KEYS[3], unpack(new))
end
if #elements > 0 then
  redis.call('LPUSH', KEYS[1], unpack(elements))
end
if #delayed > 0 then
  redis.call('ZADD', KEYS[2], unpack(delayed))
end
return #new
