"""Online features in Redis: written by one control plane, read by the inference servers of many machines.

One hash a view, `falaj:<project>:{<view>}:rows`, entity → row packed as `core.stored` says, and one more with the view's
newest time and its mark. The braces keep both in one slot of a cluster, so that one script can write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

from falaj.adapters.redis.link import connect, place_of, translated
from falaj.core.errors import Denied, InvalidInput
from falaj.core.stored import packed, time_of, unpack, view_key
from falaj.ports.online import LONGEST_MARK, Row, Stored

_PUT = """
local rows, about = KEYS[1], KEYS[2]
local newest = redis.call('HGET', about, 'newest')
local kept = 0
for from = 4, #ARGV, 2000 do
  local names, new = {}, {}
  for at = from, math.min(from + 1998, #ARGV - 1), 2 do names[#names + 1] = ARGV[at] end
  local held = redis.call('HMGET', rows, unpack(names))
  for place = 1, #names do
    local row, old = ARGV[from + 2 * place - 1], held[place]
    if not old or #old < 8 or struct.unpack('<i8', old) <= struct.unpack('<i8', row) then
      new[#new + 1] = names[place]
      new[#new + 1] = row
    end
  end
  if #new > 0 then
    redis.call('HSET', rows, unpack(new))
    kept = kept + #new / 2
  end
end
if ARGV[1] ~= '' and (not newest or tonumber(newest) < tonumber(ARGV[1])) then redis.call('HSET', about, 'newest', ARGV[1]) end
if ARGV[2] == '1' then redis.call('HSET', about, 'mark', ARGV[3]) end
return kept
"""
"""All or none: a script runs alone, and a Redis that is full refuses its first write or none of them.

A script may unpack some 8,000 values at once, hence the slices. Lua's numbers are doubles, which hold every time that a row
may have (`LATEST_MS`).
"""


class RedisOnline:
    """capabilities: `shared`, `lasting`. Safe for many writers and readers, and between threads.

    It lasts as long as that Redis keeps its data; one that comes back empty is filled again.
    """

    capabilities: frozenset[str] = frozenset({"shared", "lasting"})

    def __init__(self, url: str, project: str, *, readonly: bool = False, timeout_s: float = 5.0) -> None:
        """`url`: redis://[user:password@]host[:port]/[number], or rediss:// for TLS with `ssl_ca_certs` and the like.

        Connects when it is first asked, so a Redis that is away now is no error yet. Raises InvalidInput for an address
        that is none.
        """
        self._project = quote(project, safe="")
        self._readonly = readonly
        self._place = place_of(url, "online store")
        self._client = connect(url, "online store", timeout_s)
        self._put = self._client.register_script(_PUT)

    def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
        if self._readonly:
            raise Denied(f"The online store at {self._place} was opened for reading only.", "the control plane writes it.")
        if mark is not None and len(mark) > LONGEST_MARK:
            raise InvalidInput(f"A mark of {len(mark):,} characters is too long.", f"{LONGEST_MARK:,} are the most.")
        given: list[bytes | str] = []
        newest: int | None = None
        for entity, row in rows.items():
            data = packed(row)
            at = time_of(data)
            newest = at if newest is None or at > newest else newest
            given += (_name(entity), data)
        if not given and mark is None:
            return 0
        head = ("" if newest is None else str(newest), "0" if mark is None else "1", mark or "")
        with self._translated():
            return int(self._put(keys=list(self._keys(view)), args=[*head, *given]))

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        if not keys:
            return []
        wanted: dict[str, tuple[list[bytes], list[int]]] = {}
        for place, (view, entity) in enumerate(keys):
            names, places = wanted.setdefault(view, ([], []))
            names.append(_name(entity))
            places.append(place)
        with self._translated():
            pipe = self._client.pipeline(transaction=False)
            for view, (names, _) in wanted.items():
                pipe.hmget(self._keys(view)[0], names)
            answers = pipe.execute()
        found: list[Stored | None] = [None] * len(keys)
        for (_, places), answer in zip(wanted.values(), answers, strict=True):
            for place, data in zip(places, answer, strict=True):
                if data is not None:
                    found[place] = unpack(data)
        return found

    def freshness(self, view: str) -> int | None:
        with self._translated():
            found: Any = self._client.hget(self._keys(view)[1], "newest")
            return None if found is None else int(found)

    def mark(self, view: str) -> str | None:
        with self._translated():
            found: Any = self._client.hget(self._keys(view)[1], "mark")
            return None if found is None else bytes(found).decode()

    def count(self, view: str) -> int:
        with self._translated():
            found: Any = self._client.hlen(self._keys(view)[0])
            return int(found)

    def clear(self, view: str) -> None:
        """Frees the memory in the background, so that nobody waits for a large view."""
        if self._readonly:
            raise Denied(f"The online store at {self._place} was opened for reading only.", "the control plane writes it.")
        with self._translated():
            self._client.unlink(*self._keys(view))

    def close(self) -> None:
        self._client.close()

    def _keys(self, view: str) -> tuple[bytes, bytes]:
        start = b"falaj:" + self._project.encode() + b":{" + view_key(view) + b"}:"
        return start + b"rows", start + b"about"

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"The online store at {self._place}", "online_url")


def _name(entity: str) -> bytes:
    return entity.encode("utf-8", "surrogatepass")
