"""Group: threads that write at once take turns and share one commit; each returns when its own writes are durable.

Making a commit durable takes milliseconds, whatever is in it. So the transactions of one process go into one batch, one after
another, first come first served, for as long as somebody is waiting or on its way back from the last commit; whoever finds
nobody behind it commits for all. A lone writer finds nobody, and commits at once.

Threads that wait for the turn have to be woken twice, once for it and once for the result, and to wake a thread takes as long
as to write an event. So those who are told of a commit one after the other find the turn free as they come by, and the group
stays open until the last of them was seen.

A transaction sees what those before it in its group have written, as if they were committed. So it shares their fate: if the
commit fails, it fails for each of them, and also a block that raised after it saw such writes learns that they never happened.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType

from falaj.adapters.ledgers.batch import Batch, BatchTransaction
from falaj.core.errors import Bug, FalajError, Unavailable

MOST = 1024
"""Transactions that share a commit; the first of them waits for the last."""
LARGEST = 8 << 20
"""Bytes of leaves in one commit."""
LONGEST_S = 0.05
"""How long a group takes others in, so that nobody's commit waits for an endless queue, nor another process for the lock."""


class Group:
    """`begin` takes the store's write lock and returns an empty batch; it raises Unavailable where it doesn't get it."""

    def __init__(self, name: str, begin: Callable[[], Batch], busy_seconds: float) -> None:
        self._name, self._begin, self._busy_seconds = name, begin, busy_seconds
        self._door = threading.Lock()
        """Guards the queue and the turn, for a moment each."""
        self._queue: deque[threading.Lock] = deque()
        self._taken = False
        self._coming = 0
        """Members of committed groups that have not been seen since."""
        self._open: OpenGroup | None = None
        """The group that is being filled; touched by whoever has the turn. While nobody has it, somebody is coming."""
        self._here = threading.local()

    def transaction(self) -> AbstractContextManager[BatchTransaction]:
        """A transaction of the open group, or of a new one. Returns when it is durable, or raises what kept it from that."""
        return _Member(self)

    @contextmanager
    def alone(self) -> Iterator[Batch]:
        """The write lock for one purpose that shares its commit with nobody; what was written before is durable by then."""
        self.enter()
        try:
            self._settle()
            batch = self._begin()
            try:
                yield batch
                batch.store.commit(batch)
            except BaseException:
                batch.store.rollback()
                raise
        finally:
            self._here.writes = False
            self._pass_on()

    def enter(self) -> threading.Lock:
        """Waits for the turn. The ticket is locked; whoever gives the turn, or later the result, opens it."""
        if getattr(self._here, "writes", False):
            raise Bug("A transaction was opened inside a transaction of the same thread.", "use the one that is open.")
        ticket = threading.Lock()
        ticket.acquire()
        with self._door:
            if self._taken:
                self._queue.append(ticket)
            has_to_wait, self._taken = self._taken, True
        if has_to_wait:
            self._wait(ticket)
        self._here.writes = True
        return ticket

    def join(self) -> OpenGroup:
        """The open group, or a new one. Whoever has the turn may ask; the turn is given back where there is none to be had."""
        try:
            self._open = self._open or OpenGroup(self._begin())
        except BaseException:
            self._here.writes = False
            self._pass_on()
            raise
        return self._open

    def leave(self, group: OpenGroup, ticket: threading.Lock, raised: BaseException | None = None) -> None:
        """Gives the turn to the next in the queue and waits for the commit, or commits where nobody waits or enough is in."""
        self._here.writes = False
        if raised is not None and not group.members:
            self._abandon()  # it has seen nothing but what is committed
            return
        group.members += 1
        if self._hand_on(group, ticket):
            self._wait_for(group, ticket)
        else:
            self._commit()
        if group.failure is not None:
            raise _again(group.failure) from (raised or group.failure)

    def _wait(self, ticket: threading.Lock) -> None:
        try:
            if ticket.acquire(timeout=self._busy_seconds):
                return
        except BaseException:
            if not self._withdraw(ticket):
                self._abandon()
            raise
        if self._withdraw(ticket):
            raise Unavailable(f"The ledger {self._name} is held by another thread.", "try again.")

    def _withdraw(self, ticket: threading.Lock) -> bool:
        """Leaves the queue. False: the turn has come meanwhile, and is held now."""
        with self._door:
            if ticket in self._queue:
                self._queue.remove(ticket)
                return True
        ticket.acquire()  # whoever took it out of the queue is about to open it
        return False

    def _abandon(self) -> None:
        """Gives the turn back without having written anything."""
        if not self._hand_on(self._open):
            self._commit()

    def _hand_on(self, group: OpenGroup | None, ticket: threading.Lock | None = None) -> bool:
        """Gives the turn to the next in the queue, or to whoever comes by first. False: the caller has to commit now."""
        with self._door:
            following = None
            if group and group.is_full():
                return False
            if self._queue:
                following = self._queue.popleft()
            elif self._coming and group and group.members:
                self._taken = False
            else:
                return False
            if group and ticket:
                group.tickets.append(ticket)
        if following is not None:
            following.release()
        return True

    def _wait_for(self, group: OpenGroup, ticket: threading.Lock) -> None:
        """Until the group is settled, by another or, where the turn comes back, by this thread."""
        while True:
            try:
                ticket.acquire()
            except BaseException:
                self._give_up(group, ticket)
                raise
            if group.is_settled:
                self._seen(group)
                return
            if not self._hand_on(group, ticket):
                self._commit()
                return

    def _give_up(self, group: OpenGroup, ticket: threading.Lock) -> None:
        """The thread was interrupted. What it was told meanwhile, others rely on."""
        was_told = False
        with self._door:
            is_settled = group.is_settled
            try:
                group.tickets.remove(ticket)
            except ValueError:
                was_told = True
        if is_settled:
            self._seen(group)
        elif was_told:
            self._abandon()

    def _seen(self, group: OpenGroup) -> None:
        """A member of a settled group is awake: it wakes the next, and is waited for no longer. The last of them sees to the
        group that was left open, and so does any of them once that took long enough."""
        group.wake()
        leader = None
        with self._door:
            self._coming -= 1
            left = self._open
            if self._taken or left is None or (self._coming and not left.is_full()):
                return
            self._taken = True
            if left.tickets:
                leader = left.tickets.popleft()
        if leader is not None:
            leader.release()
        else:
            self._commit()

    def _commit(self) -> None:
        try:
            self._settle()
        finally:
            self._pass_on()

    def _settle(self) -> None:
        """Commits the open group, if there is one, and tells its members."""
        group, self._open = self._open, None
        if group is None:
            return
        try:
            if group.members:
                group.batch.store.commit(group.batch)
            else:
                group.batch.store.rollback()
        except BaseException as exc:
            group.failure = exc
            group.batch.store.rollback()
            if not isinstance(exc, Exception):
                raise
        finally:
            with self._door:
                group.is_settled = True
                self._coming += len(group.tickets)
            group.wake()

    def _pass_on(self) -> None:
        with self._door:
            if not self._queue:
                self._taken = False
                return
            following = self._queue.popleft()
        following.release()


class OpenGroup:
    """A group that is being filled."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.members = 0
        self.tickets: deque[threading.Lock] = deque()
        """Of the members who wait to be told."""
        self.failure: BaseException | None = None
        self.is_settled = False
        self._until = time.monotonic() + LONGEST_S

    def wake(self) -> None:
        """The next one of those who wait, who wakes the one after it. All at once they would stand in each other's way for a
        third of the time, since only one of them can run."""
        with suppress(IndexError):
            self.tickets.popleft().release()

    def is_full(self) -> bool:
        return self.members >= MOST or self.batch.size >= LARGEST or time.monotonic() >= self._until


class _Member:
    """One transaction from its turn to its commit. A class, since a generator would take as long as the rest of it."""

    __slots__ = ("_group", "_open", "_ticket", "_tx")

    def __init__(self, group: Group) -> None:
        self._group = group

    def __enter__(self) -> BatchTransaction:
        self._ticket = self._group.enter()
        self._open = self._group.join()
        self._tx = BatchTransaction(self._open.batch)
        return self._tx

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tx.is_open = False
        if error is None:
            self._open.batch.take(self._tx)
        self._group.leave(self._open, self._ticket, error)


def _again(failure: BaseException) -> BaseException:
    """The same error for another thread: one object raised in many threads would collect all their tracebacks."""
    if isinstance(failure, FalajError):
        return type(failure)(failure.message, failure.hint, **failure.facts)
    if isinstance(failure, Exception):
        return Bug(f"The ledger's commit failed: {type(failure).__name__}: {failure}")
    return Unavailable(
        "The commit that this change shared with others was broken off: it is not known whether the change was kept.",
        "look before you do it again.", outcome="unknown",
    )  # fmt: skip
