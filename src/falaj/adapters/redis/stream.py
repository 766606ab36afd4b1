"""Messages in Redis Streams: one stream a name, consumer groups, and ids that are remembered for a while.

An entry has the fields `value`, and where there are any `key`, `id` and `h:<header>`. Others may write and read such entries
with any client: `XADD requests * value '{…}'` is a message.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

from redis.exceptions import ResponseError

from falaj.adapters.redis.link import connect, place_of, translated
from falaj.core.errors import FalajError, Unavailable
from falaj.core.message import LARGEST_VALUE, Delivery, Message, check_messages

_PRODUCE = """
local stream, window, keep = KEYS[1], ARGV[1], tonumber(ARGV[2])
local function before(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  return tonumber(a1) < tonumber(b1) or (a1 == b1 and tonumber(a2) < tonumber(b2))
end
if keep > 0 and redis.call('XLEN', stream) + #KEYS - 1 > keep then
  local needed
  for _, group in ipairs(redis.pcall('XINFO', 'GROUPS', stream)) do
    local about = {}
    for at = 1, #group, 2 do about[group[at]] = group[at + 1] end
    local low = about['last-delivered-id']
    if about['pending'] > 0 then low = redis.call('XPENDING', stream, about['name'])[2] end
    if not needed or before(low, needed) then needed = low end
  end
  if needed then redis.call('XTRIM', stream, 'MINID', needed) end
  if redis.call('XLEN', stream) + #KEYS - 1 > keep then return -1 end
end
local at, new = 3, 0
for place = 2, #KEYS do
  local count = tonumber(ARGV[at])
  if KEYS[place] == stream or redis.call('SET', KEYS[place], '1', 'NX', 'PX', window) then
    redis.call('XADD', stream, '*', unpack(ARGV, at + 1, at + count))
    new = new + 1
  end
  at = at + 1 + count
end
return new
"""
"""A script runs alone, so an id and its message are stored together. A full stream is trimmed only of what all groups are
done with; where that is too little nothing is stored."""


class RedisStream:
    """capabilities: `dedup` (for `window_s`, whoever produces), `leases`, `counts`, `shared`.

    Not `ordered`: a message that is handed out again comes after younger ones. Not `durable`: that is Redis' own setting
    (`appendfsync always`). A stream holds at most `keep` messages: one that nobody consumes refuses more.
    """

    capabilities: frozenset[str] = frozenset({"dedup", "leases", "counts", "shared"})

    def __init__(
        self, url: str, name: str, *, visible_s: float = 30.0, largest: int = LARGEST_VALUE, keep: int = 1_000_000,
        window_s: float = 600.0, timeout_s: float = 5.0,
    ) -> None:  # fmt: skip
        """`url` as for `RedisOnline`. Connects when it is first asked. Raises InvalidInput for an address that is none."""
        self._name, self._where = name, f"The stream {name!r} at {place_of(url, 'stream')}"
        self._client = connect(url, "stream", timeout_s)
        self._produce = self._client.register_script(_PRODUCE)
        self._visible_ms, self._largest, self._keep = int(visible_s * 1000), largest, keep
        self._window_ms, self._longest_wait_s = int(window_s * 1000), timeout_s / 2
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._groups: set[str] = set()

    def consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        until = time.monotonic() + wait_s
        self._groups.add(group)
        with self._translated():
            while True:
                found = self._claim(group, limit)
                left = until - time.monotonic()
                if len(found) < limit:
                    wait = None if found or left <= 0 else max(1, int(min(left, self._longest_wait_s, 0.25) * 1000))
                    found += self._fresh(group, limit - len(found), wait)
                if found or left <= 0:
                    return found

    def acknowledge(self, group: str, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            with self._translated():
                self._client.xack(self._name, group, *(one.position for one in deliveries))

    def release(self, group: str, deliveries: Sequence[Delivery]) -> None:
        """An entry that was idle for as long as the visibility time is anybody's."""
        self._reset(group, deliveries, self._visible_ms + 1)

    def extend(self, group: str, deliveries: Sequence[Delivery]) -> None:
        self._reset(group, deliveries, 0)

    def produce(self, messages: Sequence[Message]) -> int:
        check_messages(messages, self._largest)
        if not messages:
            return 0
        keys: list[str] = [self._name]
        given: list[bytes | str | int] = [self._window_ms, self._keep]
        for message in messages:
            keys.append(f"falaj:{{{self._name}}}:id:{message.id}" if message.id else self._name)
            fields = _fields(message)
            given += [len(fields), *fields]
        with self._translated():
            new = int(self._produce(keys=keys, args=given))
        if new < 0:
            raise Unavailable(
                f"{self._where} holds {self._keep:,} messages that are still needed.", "let its consumers catch up."
            )
        return new

    def replay(self) -> Iterator[Delivery]:
        with self._translated():
            last: Any = self._client.xrevrange(self._name, count=1)
        after = "-"
        while last:
            with self._translated():
                page: Any = self._client.xrange(self._name, min=after, max=last[0][0], count=500)
            for entry, fields in page:
                yield _delivery(entry, fields, 0)
                after = f"({entry.decode()}"
            if not page:
                return

    def lag(self, group: str) -> int:
        """Exact, but where entries were deleted by hand: then what lies ahead is counted up to 10,000."""
        with self._translated():
            if not self._client.exists(self._name):
                return 0
            found: Any = self._client.xinfo_groups(self._name)
            about = next((one for one in found if one["name"] == group.encode()), None)
            if about is None:
                return int(self._client.xlen(self._name))
            ahead = about.get("lag")
            if ahead is None:
                rest: Any = self._client.xrange(self._name, min=b"(" + about["last-delivered-id"], count=10_000)
                ahead = len(rest)
            return int(ahead) + int(about["pending"])

    def close(self) -> None:
        with suppress(FalajError), self._translated():
            for group in self._groups:
                held: Any = self._client.xpending_range(self._name, group, "-", "+", 10_000, consumername=self._owner)
                positions = [one["message_id"].decode() for one in held]
                if positions:
                    self._idle(group, positions, self._visible_ms + 1)
                else:
                    self._client.xgroup_delconsumer(self._name, group, self._owner)
        self._client.close()

    def _claim(self, group: str, limit: int) -> list[Delivery]:
        """What another consumer, or this one, held for too long."""
        try:
            answer: Any = self._client.xautoclaim(self._name, group, self._owner, self._visible_ms, count=limit)
        except ResponseError as exc:
            if "NOGROUP" not in str(exc):
                raise
            self._make(group)
            return []
        entries = [(entry, fields) for entry, fields in answer[1] if fields is not None]
        if not entries:
            return []
        first, last = entries[0][0], entries[-1][0]
        pending: Any = self._client.xpending_range(self._name, group, first, last, 10_000, consumername=self._owner)
        counts = {one["message_id"]: int(one["times_delivered"]) for one in pending}
        return [_delivery(entry, fields, counts.get(entry, 2)) for entry, fields in entries]

    def _fresh(self, group: str, limit: int, wait_ms: int | None) -> list[Delivery]:
        answer: Any = self._client.xreadgroup(group, self._owner, {self._name: ">"}, count=limit, block=wait_ms)
        return [_delivery(entry, fields, 1) for _, entries in answer or () for entry, fields in entries]

    def _make(self, group: str) -> None:
        try:
            self._client.xgroup_create(self._name, group, id="0", mkstream=True)
        except ResponseError as exc:
            if "BUSYGROUP" not in str(exc):  # another consumer was faster
                raise

    def _reset(self, group: str, deliveries: Sequence[Delivery], idle_ms: int) -> None:
        """Only of what this consumer holds still: claiming what is somebody else's would take it from them."""
        if not deliveries:
            return
        with self._translated():
            positions = {one.position for one in deliveries}
            held: Any = self._client.xpending_range(self._name, group, "-", "+", 10_000, consumername=self._owner)
            own = [entry for one in held if (entry := one["message_id"].decode()) in positions]
            if own:
                self._idle(group, own, idle_ms)

    def _idle(self, group: str, positions: Sequence[str], idle_ms: int) -> None:
        self._client.xclaim(self._name, group, self._owner, 0, list(positions), idle=idle_ms, justid=True)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._where, "stream_url")


def _fields(message: Message) -> list[bytes | str]:
    fields: list[bytes | str] = ["value", message.value]
    for name, text in (("key", message.key), ("id", message.id)):
        if text:
            fields += [name, text]
    for name, text in message.headers.items():
        fields += [f"h:{name}", text]
    return fields


def _delivery(entry: bytes, fields: Mapping[bytes, bytes], attempts: int) -> Delivery:
    texts = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items() if name != b"value"
    }
    headers = {name[2:]: text for name, text in texts.items() if name.startswith("h:")}
    message = Message(fields.get(b"value", b""), texts.get("key", ""), headers, texts.get("id", ""))
    position = entry.decode()
    return Delivery(message, position, attempts, int(position.partition("-")[0]))
