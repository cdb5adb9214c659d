-- Shared by scripts that put jobs back: it is prepended to them.
--
-- A delayed job is a record: `key priority deliveries`, a line feed, the payload. The key is the job's id or, where
-- nobody knows one, owner and claim by which it was first taken: unique, so that two equal payloads stay two members
-- of a sorted set. A leased job is its record, or the bare element where it came from the list, which its position
-- tells: to put a header before every element would cost as much as all the rest, since Lua hashes every string.

local FIRST_ELEMENT = 1024

local function again(job, claim, owner, delivered)
  if tonumber(string.match(claim, ':(%d+)$')) > FIRST_ELEMENT then
    return owner .. ':' .. claim .. ' - ' .. delivered .. '\n' .. job
  end
  local header, deliveries, rest = string.match(job, '^(%S+ %S+ )(%d+)(\n.*)$')
  if not header then
    -- Not written by us: all of it is payload.
    return owner .. ':' .. claim .. ' - ' .. delivered .. '\n' .. job
  end
  return header .. (deliveries + delivered) .. rest
end
