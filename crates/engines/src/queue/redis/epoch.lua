-- The generation of what is in the list; where Redis was emptied a new one begins, told by the server's clock.
-- KEYS: epoch
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  local time = redis.call('TIME')
  epoch = time[1] .. string.format('%06d', time[2])
  redis.call('SET', KEYS[1], epoch)
end
return epoch
