"""The embedded stream: a folder of segment files that the processes of one machine write and read, and no server."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from falaj.adapters.local.frames import Frames, locked, refusal, sync_folder
from falaj.core.errors import Conflict, InvalidInput, Unavailable
from falaj.core.leases import Leases
from falaj.core.message import LARGEST_VALUE, Delivery, Message, check_messages

_LOOK_EVERY_S = 0.02
_REMEMBERED = 100_000
"""Ids: of that many latest messages none is stored twice."""


class FileStream:
    """`folder/name/` holds the segments (see `frames`), and `groups/` who has acknowledged what.

    capabilities: `durable` (through fsync, so also after a power cut), `dedup` (among the last 100,000 messages, whoever
    produced them), `ordered`, `leases`, `counts`, `shared` (between processes of one machine). Segments that every group is
    done with go once more than `keep_bytes` are kept; a stream that no group reads keeps everything.
    """

    capabilities: frozenset[str] = frozenset({"durable", "dedup", "ordered", "leases", "counts", "shared"})

    def __init__(
        self, folder: Path, name: str, *, visible_s: float = 30.0, largest: int = LARGEST_VALUE, keep_bytes: int = 256 << 20,
        segment_bytes: int = 8 << 20,
    ) -> None:  # fmt: skip
        """Makes the folder when it is first written to. Raises InvalidInput for a name that would lead out of it."""
        self.folder = Path(folder) / _safe(name, "stream")
        self._frames = Frames(self.folder, segment_bytes=segment_bytes)
        self._visible_ms, self._largest, self._keep_bytes = int(visible_s * 1000), largest, keep_bytes
        self._owner = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._ids: dict[str, None] = {}
        self._known = -1
        """The first message whose id has not been looked at."""
        self._groups: set[str] = set()

    def consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        until = time.monotonic() + wait_s
        while True:
            found = self._take(group, limit)
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(left, _LOOK_EVERY_S))

    def acknowledge(self, group: str, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        with self._group(group) as (leases, save):
            leases.acknowledge(_numbers(deliveries))
            save("done", leases.settled())
            save("held", leases.open())
            done = leases.done
        if self._frames.first + 1 < done:
            with self._frames.writing():
                self._frames.drop_before(
                    min(self._done_of(path) for path in self._group_folder().glob("*.done")), self._keep_bytes
                )

    def release(self, group: str, deliveries: Sequence[Delivery]) -> None:
        self._change(group, deliveries, lambda leases, numbers: leases.release(numbers, self._owner))

    def extend(self, group: str, deliveries: Sequence[Delivery]) -> None:
        until_ms = _now_ms() + self._visible_ms
        self._change(group, deliveries, lambda leases, numbers: leases.extend(numbers, self._owner, until_ms))

    def produce(self, messages: Sequence[Message]) -> int:
        check_messages(messages, self._largest)
        if not messages:
            return 0
        self._make(self.folder)
        with self._frames.writing():
            self._catch_up()
            new = []
            for message in messages:
                if not message.id or message.id not in self._ids:
                    new.append(message)
                if message.id:
                    self._ids[message.id] = None
            try:
                self._frames.append(new, _now_ms())
            except (Unavailable, Conflict):
                for message in new:
                    self._ids.pop(message.id, None)
                raise
            self._known += len(new)
        while len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return len(new)

    def replay(self) -> Iterator[Delivery]:
        end = self._frames.end()
        for number, (message, at_ms) in self._frames.read(0):
            if number >= end:
                return
            yield Delivery(message, str(number), 0, at_ms)

    def lag(self, group: str) -> int:
        """Exact."""
        with self._group(group) as (leases, _):
            return max(self._frames.end() - leases.done - len(leases.acked), 0)

    def close(self) -> None:
        for group in sorted(self._groups):
            with self._group(group) as (leases, save):
                leases.release(list(leases.held), self._owner)
                save("held", leases.open())
        self._groups.clear()

    def _take(self, group: str, limit: int) -> list[Delivery]:
        now_ms = _now_ms()
        with self._group(group) as (leases, save):
            if group not in self._groups:
                self._groups.add(group)
                save("done", leases.settled())  # from now on nothing is removed that this group has not seen
            leases.skip_to(self._frames.first)
            for lease in leases.held.values():
                if lease.owner != self._owner and lease.until_ms > now_ms and _is_gone(lease.owner):
                    lease.until_ms = 0  # nobody needs to wait for the time of a consumer that died
            before, found = leases.next, {}

            def fresh() -> Iterator[tuple[int, str]]:
                for number, stamped in self._frames.read(before):
                    found[number] = stamped
                    yield number, stamped[0].key

            taken = leases.take(fresh(), self._owner, limit, (now_ms, now_ms + self._visible_ms))
            if not taken and leases.next == before:
                return []
            deliveries = []
            for number, attempts in taken:
                message, at_ms = found[number] if number in found else next(self._frames.read(number))[1]
                deliveries.append(Delivery(message, str(number), attempts, at_ms))
            save("held", leases.open())
        return deliveries

    def _change(self, group: str, deliveries: Sequence[Delivery], change: Callable[[Leases, Sequence[int]], None]) -> None:
        if deliveries:
            with self._group(group) as (leases, save):
                change(leases, _numbers(deliveries))
                save("held", leases.open())

    def _catch_up(self) -> None:
        """Learns the ids that other producers stored, or this one before it was opened anew."""
        if self._known < 0:
            self._known = max(self._frames.end() - _REMEMBERED, 0)
        for number, (message, _) in self._frames.read(self._known):
            if message.id:
                self._ids[message.id] = None
            self._known = number + 1

    @contextmanager
    def _group(self, group: str) -> Iterator[tuple[Leases, Callable[[str, Any], None]]]:
        """The group's place, alone among all its consumers, and what saves it. What is held may be lost, what is done may not."""
        folder, name = self._group_folder(), _safe(group, "group")
        self._make(folder)
        with locked(folder / f"{name}.lock"):
            try:
                leases = Leases.read(_json(folder / f"{name}.done"), _json(folder / f"{name}.held", is_needed=False))
            except (ValueError, KeyError, TypeError) as exc:
                raise Conflict(
                    f"The place of group {group!r} in {self.folder} cannot be read: {exc}.", "restore it from a backup."
                ) from exc

            def save(kind: str, body: Any) -> None:
                try:
                    _replace(folder / f"{name}.{kind}", json.dumps(body).encode(), lasting=kind == "done")
                except OSError as exc:
                    raise refusal(folder, exc) from exc

            yield leases, save

    def _done_of(self, path: Path) -> int:
        return int((_json(path) or {"done": 0})["done"])

    def _group_folder(self) -> Path:
        return self.folder / "groups"

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise refusal(folder, exc) from exc


def _is_gone(owner: str) -> bool:
    """Whether the process that an owner is named after has ended. One whose number was given to another seems to live."""
    pid = owner.partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, PermissionError):
        return False
    return False


def _numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [int(one.position) for one in deliveries]


def _json(path: Path, *, is_needed: bool = True) -> Any:
    """None where there is no such file yet; also for one that a power cut emptied, where it is not needed. Raises ValueError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Unavailable(f"{path} cannot be read: {exc.strerror}.") from exc
    except ValueError:
        if is_needed:
            raise
        return None


def _replace(path: Path, data: bytes, *, lasting: bool) -> None:
    draft = path.with_name(path.name + ".draft")  # one writer at a time: under the group's lock
    fd = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if lasting:
            os.fsync(fd)
    finally:
        os.close(fd)
    draft.replace(path)
    if lasting:
        sync_folder(path.parent)


def _safe(name: str, what: str) -> str:
    if not name or not all(letter.isalnum() or letter in "._-" for letter in name) or name.startswith(".") or len(name) > 100:
        raise InvalidInput(f"{name[:80]!r} is no name of a {what}.", "letters, digits, '.', '_' and '-', at most 100.")
    return name


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
