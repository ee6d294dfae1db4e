"""What runs inside Redis: the newest row wins, decided and stored in one step.

A call takes many keys, so that Redis is asked once per hundred rows; each function answers with the numbers of the
rows it left out because what is stored is newer. Equal times: the later write stands. A row's fields and values come
as one MessagePack text, which Redis unpacks in C; as arguments of their own they take half as long again. A row with
all its columns comes as RESTORE takes it, which is three times as fast again (see dump.py).
"""

from __future__ import annotations

import hashlib

_SOURCE = """
local function newer(held, version)
  if not held then return false end
  local known, given = tonumber(held), tonumber(version)
  if known and given then return known > given end
  return tostring(held) > version  -- days, written so that their texts compare as they do
end

-- args: the time's field or '', milliseconds to live or 0; per key: time, fields and values, fields to take away
local function put_hash(keys, args)
  local call, unpacked = redis.call, cmsgpack.unpack
  local guard, life, stale = args[1], tonumber(args[2]), {}
  for k = 1, #keys do
    local key, a = keys[k], 3 * k
    if guard ~= '' and newer(call('HGET', key, guard), args[a]) then
      stale[#stale + 1] = k
    else
      call('HSET', key, unpacked(args[a + 1]))
      if args[a + 2] ~= '' then call('HDEL', key, unpacked(args[a + 2])) end
      if life > 0 then call('PEXPIRE', key, life) end
    end
  end
  return stale
end

-- args: also the number of the table's columns; per key: time, the row as RESTORE takes it. A row whose hash may hold
-- another's fields is answered by its number below zero: they are left, and it is to come field by field
local function put_whole(keys, args)
  local call = redis.call
  local guard, life, most, left = args[1], args[2], tonumber(args[3]), {}
  for k = 1, #keys do
    local key, a = keys[k], 2 + 2 * k
    if guard ~= '' and newer(call('HGET', key, guard), args[a]) then
      left[#left + 1] = k
    elseif call('HLEN', key) > most then
      left[#left + 1] = -k
    else
      call('RESTORE', key, life, args[a + 1], 'REPLACE')
    end
  end
  return left
end

-- per key: time, field, row as JSON
local function put_map(keys, args)
  local guard, life, stale = args[1], tonumber(args[2]), {}
  for k = 1, #keys do
    local key, a = keys[k], 3 * k
    local held = guard ~= '' and redis.call('HGET', key, args[a + 1])
    if held and newer(cjson.decode(held)[guard], args[a]) then
      stale[#stale + 1] = k
    else
      redis.call('HSET', key, args[a + 1], args[a + 2])
      if life > 0 then redis.call('PEXPIRE', key, life) end
    end
  end
  return stale
end

-- per key: time, member, '1' to add it or '' to take it away; times lie beside the set, in the same slot
local function put_set(keys, args)
  local guard, life, stale = args[1], tonumber(args[2]), {}
  for k = 1, #keys do
    local key, a = keys[k], 3 * k
    local times = '{' .. key .. '}:' .. guard
    if guard ~= '' and newer(redis.call('HGET', times, args[a + 1]), args[a]) then
      stale[#stale + 1] = k
    else
      redis.call(args[a + 2] == '1' and 'SADD' or 'SREM', key, args[a + 1])
      if guard ~= '' then redis.call('HSET', times, args[a + 1], args[a]) end
      if life > 0 then
        redis.call('PEXPIRE', key, life)
        if guard ~= '' then redis.call('PEXPIRE', times, life) end
      end
    end
  end
  return stale
end
"""
_MARK = hashlib.sha256(_SOURCE.encode()).hexdigest()[:8]  # two versions of this program may share a server
WHOLE = "whole"
KINDS = ("hash", WHOLE, "map", "set")

LIBRARY = f"#!lua name=mystocks_{_MARK}\n{_SOURCE}" + "".join(
    f"redis.register_function('mystocks_put_{kind}_{_MARK}', put_{kind})\n" for kind in KINDS
)


def function(kind: str) -> bytes:
    """The name of the function that stores rows of this kind."""
    return f"mystocks_put_{kind}_{_MARK}".encode()
