"""Threads that write one ledger at once: who commits, for whom, and what happens to all of them when it fails.

The interleavings are forced: a store that waits inside its commit, and a queue that is looked at before anything goes on.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from falaj.adapters.ledgers import group as groups
from falaj.adapters.ledgers.batch import Batch, BatchTransaction, states
from falaj.adapters.ledgers.group import Group, OpenGroup
from falaj.core.errors import Bug, Conflict, InvalidInput, Unavailable
from falaj.core.event import Change
from falaj.core.merkle import Frontier
from falaj.testing.ledger import event, put


class Disk:
    """A store in memory whose commit can be held up, and can fail."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], bytes] = {}
        self.commits: list[list[int]] = []
        self.failure: BaseException | None = None
        self.gate, self.inside = threading.Event(), threading.Event()
        self.gate.set()
        self.rollbacks = self.size = 0
        self.is_held = False

    def begin(self) -> Batch:
        assert not self.is_held, "two groups have the write lock"
        self.is_held = True
        return Batch(self, Frontier(self.size, [b"x" * 32] * self.size.bit_count()))

    def get(self, kind: str, key: str) -> bytes | None:
        return self.records.get((kind, key))

    def find(self, kind: str, prefix: str) -> list[tuple[str, bytes]]:
        return [(key, body) for (of, key), body in sorted(self.records.items()) if of == kind and key.startswith(prefix)]

    def commit(self, batch: Batch) -> None:
        self.inside.set()
        assert self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        self.commits.append([row.seq for row in batch.rows])
        self.size += len(batch.rows)
        for kind, found in batch.records.items():
            for key, (body, _) in found.items():
                self.records.pop((kind, key), None)
                if body is not None:
                    self.records[kind, key] = body
        self.is_held = False

    def rollback(self) -> None:
        self.rollbacks += self.is_held
        self.is_held = False


Work = Callable[[BatchTransaction], Any]


class Crowd:
    """Threads in a known order: the first is held inside its block, the others stand in the queue one behind the other."""

    def __init__(self, group: Group, pool: ThreadPoolExecutor) -> None:
        self.group, self._pool = group, pool
        self.release = threading.Event()

    def first(self, work: Work) -> Future[Any]:
        begun = threading.Event()

        def held(tx: BatchTransaction) -> Any:
            begun.set()
            assert self.release.wait(20)
            return work(tx)

        future = self._pool.submit(self._do, held)
        assert begun.wait(20)
        return future

    def then(self, work: Work) -> Future[Any]:
        waiting = len(self.group._queue)
        future = self._pool.submit(self._do, work)
        wait_for(lambda: len(self.group._queue) == waiting + 1)
        return future

    def _do(self, work: Work) -> Any:
        with self.group.transaction() as tx:
            return work(tx)


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.001)


def count(tx: BatchTransaction) -> int:
    n = int((tx.get("thing", "count") or {"n": 0})["n"]) + 1
    tx.append(event("a.b", "model/delay", put("count", n=n)))
    return n


def fail(tx: BatchTransaction) -> None:
    count(tx)
    raise ZeroDivisionError


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with something else ends no group early."""
    monkeypatch.setattr(groups, "LONGEST_S", 60.0)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def group(disk: Disk) -> Group:
    return Group("of the test", disk.begin, 20.0)


@pytest.fixture
def crowd(group: Group) -> Iterator[Crowd]:
    with ThreadPoolExecutor(16) as pool:
        crowd = Crowd(group, pool)
        yield crowd
        crowd.release.set()


def test_a_lone_writer_commits_at_once(disk: Disk, group: Group) -> None:
    for n in range(3):
        with group.transaction() as tx:
            assert count(tx) == n + 1
        assert disk.commits == [[k] for k in range(n + 1)]


def test_those_who_wait_share_one_commit_and_see_each_other_in_the_order_of_their_coming(disk: Disk, crowd: Crowd) -> None:
    futures = [crowd.first(count), *[crowd.then(count) for _ in range(5)]]
    crowd.release.set()
    assert [future.result(20) for future in futures] == [1, 2, 3, 4, 5, 6]
    assert disk.commits == [[0, 1, 2, 3, 4, 5]]


def test_nobody_returns_before_the_commit(disk: Disk, crowd: Crowd) -> None:
    disk.gate.clear()
    futures = [crowd.first(count), crowd.then(count), crowd.then(count)]
    crowd.release.set()
    assert disk.inside.wait(20)
    assert not any(future.done() for future in futures)
    disk.gate.set()
    assert [future.result(20) for future in futures] == [1, 2, 3]


def test_who_comes_during_a_commit_is_in_the_next_one(disk: Disk, group: Group, crowd: Crowd) -> None:
    disk.gate.clear()
    first = crowd.first(count)
    crowd.release.set()
    assert disk.inside.wait(20)
    later = [crowd.then(count), crowd.then(count)]
    disk.gate.set()
    assert [future.result(20) for future in (first, *later)] == [1, 2, 3]
    assert disk.commits == [[0], [1, 2]]


def test_a_commit_that_fails_fails_for_all_of_the_group_and_for_nobody_else(disk: Disk, crowd: Crowd) -> None:
    disk.failure = Unavailable("The disk is full.", "free some space.", free=0)
    futures = [crowd.first(count), crowd.then(count), crowd.then(count)]
    crowd.release.set()
    errors = [future.exception(20) for future in futures]
    assert [(type(e), str(e), e.facts) for e in errors] == [(Unavailable, str(disk.failure), {"free": 0})] * 3  # type: ignore[union-attr]
    assert len({id(e) for e in errors}) == 3
    assert (disk.commits, disk.rollbacks, disk.records) == ([], 1, {})
    disk.failure = None
    assert crowd.first(count).result(20) == 1


def test_a_commit_that_fails_in_an_unforeseen_way_is_a_bug_for_all(disk: Disk, crowd: Crowd) -> None:
    disk.failure = RuntimeError("odd")
    futures = [crowd.first(count), crowd.then(count)]
    crowd.release.set()
    for future in futures:
        with pytest.raises(Bug, match="RuntimeError: odd"):
            future.result(20)


def test_a_commit_that_is_interrupted_interrupts_its_thread_and_fails_the_others(disk: Disk, crowd: Crowd) -> None:
    disk.failure = KeyboardInterrupt()
    futures = [crowd.first(count), crowd.then(count)]
    crowd.release.set()
    assert isinstance(futures[0].exception(20), Unavailable)
    assert isinstance(futures[1].exception(20), KeyboardInterrupt)
    disk.failure = None
    assert crowd.first(count).result(20) == 1


class Interrupted:
    """The ticket of a thread that is interrupted while it waits for the commit: before or after it is told something."""

    def __init__(self, is_told: bool) -> None:
        self.is_told, self._lock = is_told, closed()

    def acquire(self) -> None:
        if self.is_told:
            assert self._lock.acquire(timeout=20)
        raise KeyboardInterrupt

    def release(self) -> None:
        self._lock.release()


def closed() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@pytest.mark.parametrize("is_told", [False, True])
def test_who_is_interrupted_while_it_waits_for_the_commit_holds_up_nobody(disk: Disk, group: Group, is_told: bool) -> None:
    """Its ticket is withdrawn, or it wakes the next on its way out; and those after it count on it no longer."""
    with group._door:
        group._taken = True
    ahead = group.join()
    one, two = closed(), closed()
    ticket: Any = Interrupted(is_told)
    ahead.members = 3
    ahead.tickets.extend([ticket, one, two] if is_told else [one, ticket, two])
    group._commit()
    assert group._coming == 3
    with pytest.raises(KeyboardInterrupt):
        group._wait_for(ahead, ticket)
    assert ticket not in ahead.tickets
    assert [one.locked(), two.locked()] == [False, is_told]
    for waiting in (one, two):
        group._wait_for(ahead, waiting)
    assert (group._coming, group._taken) == (0, False)
    with group.transaction() as tx:
        count(tx)


def test_who_is_interrupted_before_the_commit_leaves_it_to_the_others(disk: Disk, group: Group) -> None:
    with group._door:
        group._taken, group._coming = True, 1
    left = group.join()
    left.members = 1
    ticket: Any = Interrupted(is_told=False)
    assert group._hand_on(left, ticket)
    with pytest.raises(KeyboardInterrupt):
        group._wait_for(left, ticket)
    assert (disk.commits, list(left.tickets), group._taken) == ([], [], False)
    settled = OpenGroup(left.batch)
    group._seen(settled)  # the last of those before is awake: nobody is left to commit but itself
    assert (disk.commits, group._taken, group._open) == ([[]], False, None)


def test_who_is_interrupted_as_the_turn_comes_to_it_commits_for_the_others(disk: Disk, group: Group) -> None:
    with group._door:
        group._taken, group._coming = True, 1
    left = group.join()
    left.members = 2
    ticket: Any = Interrupted(is_told=True)
    other = closed()
    assert group._hand_on(left, ticket)
    left.tickets.append(other)
    group._seen(OpenGroup(left.batch))
    with pytest.raises(KeyboardInterrupt):
        group._wait_for(left, ticket)
    assert (disk.commits, other.locked(), group._coming) == ([[]], False, 1)
    group._wait_for(left, other)
    assert (group._coming, group._taken) == (0, False)


def left_open(disk: Disk, group: Group, crowd: Crowd, coming: int) -> tuple[OpenGroup, Future[Any]]:
    """A group that has one member and waits for those who were told of the one before; that one, and the member."""
    before = OpenGroup(disk.begin())
    disk.rollback()
    group._coming = coming
    one = crowd.first(count)
    crowd.release.set()
    wait_for(lambda: not group._taken)
    assert (one.done(), disk.commits) == (False, [])
    return before, one


def test_a_group_stays_open_until_the_last_who_was_told_of_the_one_before_is_seen(disk: Disk, group: Group, crowd: Crowd) -> None:
    """They find the turn free, and need not be woken for it a second time."""
    before, one = left_open(disk, group, crowd, coming=2)
    group._seen(before)
    two = crowd.first(count)
    wait_for(lambda: not group._taken)
    assert (one.done(), two.done(), disk.commits) == (False, False, [])
    group._seen(before)
    assert [one.result(20), two.result(20)] == [1, 2]
    assert disk.commits == [[0, 1]]


def test_a_group_waits_no_longer_than_a_while_for_those_who_do_not_come(disk: Disk, group: Group, crowd: Crowd) -> None:
    before, one = left_open(disk, group, crowd, coming=9)
    group._seen(before)
    assert (one.done(), disk.commits) == (False, [])
    assert group._open is not None
    group._open._until = time.monotonic()  # its time is over
    group._seen(before)
    assert one.result(20) == 1
    assert (disk.commits, group._coming) == ([[0]], 7)


def test_a_crowd_that_writes_fails_and_pauses_ends_and_every_acknowledged_write_is_there(
    disk: Disk, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST", 7)
    commit, told = disk.commit, list[str]()

    def sometimes(batch: Batch) -> None:
        if len(disk.commits) % 11 == 10 and disk.rollbacks < 40:
            raise Unavailable("The disk is full.")
        commit(batch)

    disk.commit = sometimes  # type: ignore[method-assign]

    def write(name: int) -> None:
        chance = random.Random(name)
        for n in range(60):
            key = f"{name}-{n}"
            with suppress(Unavailable, ZeroDivisionError):
                if chance.random() < 0.05:
                    with group.alone() as batch:
                        assert batch.frontier.size == disk.size
                    continue
                with group.transaction() as tx:
                    tx.append(event("a.b", "model/delay", put(key, n=n)))
                    if chance.random() < 0.2:
                        raise ZeroDivisionError
                told.append(key)
            if chance.random() < 0.2:
                time.sleep(chance.random() / 200)

    threads = [threading.Thread(target=write, args=(name,), daemon=True) for name in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(told) == sorted(key for _, key in disk.records)
    assert (group._coming, group._taken, group._open, disk.is_held) == (0, False, None, False)


def test_nobody_whose_commit_was_interrupted_is_told_that_nothing_was_kept(disk: Disk, crowd: Crowd) -> None:
    """The interruption may come after the store has kept it: whoever tries again would do it twice."""
    commit = disk.commit

    def kept_and_interrupted(batch: Batch) -> None:
        commit(batch)
        raise KeyboardInterrupt

    disk.commit = kept_and_interrupted  # type: ignore[method-assign]
    futures = [crowd.first(count), crowd.then(count)]
    crowd.release.set()
    error = futures[0].exception(20)
    assert disk.size == 2
    assert isinstance(error, Unavailable)
    assert (error.facts, error.hint) == ({"outcome": "unknown"}, "look before you do it again.")


def test_a_block_that_raises_leaves_nothing_and_costs_the_others_nothing(disk: Disk, crowd: Crowd) -> None:
    futures = [crowd.first(count), crowd.then(fail), crowd.then(count)]
    crowd.release.set()
    assert futures[0].result(20) == 1
    with pytest.raises(ZeroDivisionError):
        futures[1].result(20)
    assert futures[2].result(20) == 2
    assert disk.commits == [[0, 1]]


@pytest.mark.parametrize("place", ["first", "last", "only"])
def test_a_block_that_raises_passes_the_turn_on_wherever_it_stands(disk: Disk, crowd: Crowd, place: str) -> None:
    works = {"first": [fail, count], "last": [count, fail], "only": [fail]}[place]
    futures = [crowd.first(works[0]), *[crowd.then(work) for work in works[1:]]]
    crowd.release.set()
    assert [type(future.exception(20)) for future in futures] == [
        type(None) if work is count else ZeroDivisionError for work in works
    ]
    assert disk.commits == [] if place == "only" else [[0]]
    assert crowd.first(count).result(20) == (1 if place == "only" else 2)


def test_who_raised_because_of_what_then_never_happened_is_told_so(disk: Disk, crowd: Crowd) -> None:
    """It has seen the count of the one before it, and refuses because of that; but that was never committed."""

    def refuse(tx: BatchTransaction) -> None:
        raise Conflict(f"There is {tx.get('thing', 'count')} already.")

    disk.failure = Unavailable("The disk is full.")
    futures = [crowd.first(count), crowd.then(refuse)]
    crowd.release.set()
    error = futures[1].exception(20)
    assert isinstance(error, Unavailable)
    assert isinstance(error.__cause__, Conflict)


def test_who_raises_first_does_not_wait_for_the_others(disk: Disk, crowd: Crowd) -> None:
    disk.gate.clear()
    futures = [crowd.first(fail), crowd.then(count)]
    crowd.release.set()
    with pytest.raises(ZeroDivisionError):
        futures[0].result(20)
    assert not futures[1].done()
    disk.gate.set()
    assert futures[1].result(20) == 1


@pytest.mark.parametrize("bound", ["MOST", "LARGEST", "LONGEST_S"])
def test_a_group_ends_when_enough_is_in_it(disk: Disk, crowd: Crowd, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(groups, bound, {"MOST": 2, "LARGEST": 1, "LONGEST_S": 0}[bound])
    futures = [crowd.first(count), *[crowd.then(count) for _ in range(4)]]
    crowd.release.set()
    assert [future.result(20) for future in futures] == [1, 2, 3, 4, 5]
    assert disk.commits == ([[0, 1], [2, 3], [4]] if bound == "MOST" else [[0], [1], [2], [3], [4]])


def test_who_waits_too_long_is_told_so_and_stands_in_nobodys_way(disk: Disk) -> None:
    group = Group("of the test", disk.begin, 0.05)
    with ThreadPoolExecutor(4) as pool:
        crowd = Crowd(group, pool)
        first = crowd.first(count)
        with pytest.raises(Unavailable, match="another thread"), group.transaction():
            pass
        assert len(group._queue) == 0
        crowd.release.set()
        assert first.result(20) == 1
    with group.transaction() as tx:
        assert count(tx) == 2
    assert disk.commits == [[0], [1]]


def test_a_turn_that_comes_at_the_moment_of_giving_up_is_taken(disk: Disk, group: Group, crowd: Crowd) -> None:
    """The wait ends without the turn, but it was given in between: it must not get lost."""
    first = crowd.first(count)
    second = crowd.then(count)
    crowd.release.set()
    assert [first.result(20), second.result(20)] == [1, 2]
    lost = threading.Lock()
    lost.acquire()
    threading.Timer(0.05, lost.release).start()  # it was taken out of the queue, and is opened a little later
    assert group._withdraw(lost) is False
    assert lost.locked()


def test_a_lock_that_cannot_be_had_fails_one_after_another_and_not_for_ever(disk: Disk, group: Group) -> None:
    begin, refusals = group._begin, [Unavailable("held"), Unavailable("held")]

    def refuse() -> Batch:
        if refusals:
            raise refusals.pop()
        return begin()

    group._begin = refuse
    for _ in range(2):
        with pytest.raises(Unavailable, match="held"), group.transaction():
            pass
    with group.transaction() as tx:
        assert count(tx) == 1


def test_alone_means_after_all_that_was_written_before_and_in_a_commit_of_its_own(disk: Disk, group: Group, crowd: Crowd) -> None:
    first = crowd.first(count)
    sizes: list[int] = []

    def look() -> None:
        with group.alone() as batch:
            sizes.append(batch.frontier.size)

    with ThreadPoolExecutor(1) as pool:
        looked = pool.submit(look)
        wait_for(lambda: len(group._queue) == 1)
        last = crowd.then(count)
        crowd.release.set()
        looked.result(20)
    assert [first.result(20), last.result(20)] == [1, 2]
    assert sizes == [1]
    assert disk.commits == [[0], [], [1]]


def test_what_fails_alone_is_rolled_back_and_passes_the_turn_on(disk: Disk, group: Group) -> None:
    with pytest.raises(ZeroDivisionError), group.alone():
        raise ZeroDivisionError
    assert disk.rollbacks == 1
    with group.transaction() as tx:
        assert count(tx) == 1


def test_inside_a_transaction_of_the_same_thread_nothing_else_is_begun(group: Group) -> None:
    with group.transaction():
        with pytest.raises(Bug), group.transaction():
            pass
        with pytest.raises(Bug), group.alone():
            pass
    with group.alone(), pytest.raises(Bug), group.transaction():
        pass
    with group.transaction() as tx:
        assert count(tx) == 1


def test_a_transaction_finds_what_is_stored_what_the_group_wrote_and_what_it_wrote_itself(disk: Disk, group: Group) -> None:
    disk.records = {("thing", key): b'{"from":"disk"}' for key in ("a", "b", "c", "d")}
    batch = disk.begin()
    one = BatchTransaction(batch)
    one.append(
        event("a.b", "model/delay", put("b", by="one"), Change("thing", "c", None), put("e", by="one"), put("x", by="one"))
    )
    batch.take(one)
    two = BatchTransaction(batch)
    assert (
        two.append(event("a.b", "model/delay", put("c", by="two"), Change("thing", "d", None), Change("thing", "x", None))).seq
        == 1
    )
    found = {key: body.get("by", body.get("from")) for key, body in two.find("thing")}
    assert found == {"a": "disk", "b": "one", "c": "two", "e": "one"}
    assert [two.get("thing", key) for key in ("d", "x", "none")] == [None, None, None]
    assert two.get("thing", "b") == {"by": "one"}
    assert [key for key, _ in two.find("thing", prefix="e")] == ["e"]
    assert list(found) == sorted(found)


def test_an_event_that_the_store_could_not_keep_is_refused_before_it_costs_the_group_anything(disk: Disk) -> None:
    batch = disk.begin()

    def check(entry: Any) -> None:
        if entry.verb == "bad.one":
            raise InvalidInput("no")

    batch.check = check
    tx = BatchTransaction(batch)
    tx.append(event("a.b"))
    with pytest.raises(InvalidInput, match="no"):
        tx.append(event("bad.one", "model/delay", put("k", x=1)))
    assert (len(tx.rows), tx.records) == (1, {})


def test_the_states_of_leaves_are_what_their_last_change_says() -> None:
    batch = Disk().begin()
    tx = BatchTransaction(batch)
    for n in range(10_000):
        tx.append(event("a.b", "model/delay", put(f"k{n % 7}", n=n), Change("thing", f"k{(n + 3) % 7}", None)))
    found: dict[str, bytes | None] = {}
    pieces = list(states(row.leaf for row in tx.rows))
    for records in pieces:
        found |= {key: body for key, (body, _) in records["thing"].items()}
    assert len(pieces) == 3
    assert found == {key: body for key, (body, _) in tx.records["thing"].items()}
