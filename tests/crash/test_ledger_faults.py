"""What goes wrong under a ledger costs a change, and never leaves one without its event."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.signing import verifier
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, FalajError, Unavailable
from falaj.core.merkle import leaf_hash, root
from falaj.stages.governance.rules import verify
from falaj.testing.ledger import START, append, event, put
from tests.kits.disks import SmallDisk, small_disk

pytestmark = pytest.mark.slow


def opened(folder: Path) -> SqliteLedger:
    return SqliteLedger(folder / "ledger.db", folder / "key")


def count(ledger: SqliteLedger) -> None:
    with ledger.transaction() as tx:
        seen = dict(tx.get("thing", "count") or {"n": 0})
        tx.append(event("a.b", "model/delay", put("count", n=seen["n"] + 1), put(f"k{seen['n']}", text="x" * 500)))


def audited(ledger: SqliteLedger) -> Decision:
    with ledger.evidence() as evidence:
        return verify(evidence, verifier(ledger.vkey), now=START)


def whole(ledger: SqliteLedger) -> int:
    """How many events there are, each with its change, in a ledger that the audit allows."""
    decision = audited(ledger)
    assert decision.verdict == "allow", decision.failed
    events = [e.seq for e in ledger.events()]
    assert events == list(range(len(events)))
    assert (ledger.get("thing", "count") or {"n": 0})["n"] == len(events)
    return len(events)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "16m") as disk:
        yield disk


def test_a_full_disk_refuses_writes_goes_on_reading_and_is_forgotten_when_there_is_room(disk: SmallDisk) -> None:
    ledger = opened(disk.folder)
    stop, done, refused = threading.Event(), [0] * 8, [0] * 8
    told = set[tuple[str, str]]()

    def write(own: int) -> None:
        while not stop.is_set():
            try:
                count(ledger)
                done[own] += 1
            except Unavailable as exc:
                told.add((exc.message.partition(": database")[0], exc.hint))
                refused[own] += 1
                stop.wait(0.01)

    writers = [threading.Thread(target=write, args=(own,)) for own in range(8)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            before = sum(refused)
            disk.fill(leave=100_000)
            reach(lambda: sum(refused) > before + 20, stop)  # noqa: B023
            assert ledger.get("thing", "count") is not None
            assert len(list(ledger.events())) > 0
            assert audited(ledger).failed == ()
            with closing(opened(disk.folder)) as other:  # it can be opened, too
                assert other.get("thing", "count") is not None
            disk.clear()
            before = sum(done)
            reach(lambda: sum(done) > before + 20, stop)  # noqa: B023
    finally:
        stop.set()
        disk.clear()
        for writer in writers:
            writer.join(30)
    assert whole(ledger) == sum(done)
    assert all("full" in message and "writing goes on by itself" in hint for message, hint in told), told
    ledger.close()


def reach(is_so: object, stop: threading.Event) -> None:
    for _ in range(3000):
        if is_so():  # type: ignore[operator]
            return
        stop.wait(0.01)
    pytest.fail("it did not come to that")


def test_a_damaged_page_is_told_and_never_passes_for_what_was_written(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for _ in range(20):
        append(ledger, *(event("a.b", f"model/delay@{n}", put(f"k{n}", text="x" * 400)) for n in range(20)))
    checkpoint = ledger.checkpoint()
    ledger.close()
    data = (tmp_path / "ledger.db").read_bytes()
    pages, denied = len(data) // 4096, 0
    for page in range(1, pages, max(1, pages // 25)):
        spoiled = bytearray(data)
        for at in range(page * 4096, page * 4096 + 4096, 3):
            spoiled[at] ^= 0xA5
        folder = tmp_path / f"page-{page}"
        folder.mkdir()
        (folder / "ledger.db").write_bytes(bytes(spoiled))
        for name in ("key", "key.pub"):
            (folder / name).write_bytes((tmp_path / name).read_bytes())
            (folder / name).chmod(0o600)
        with suppress(FalajError), closing(opened(folder)) as broken:
            decision = audited(broken)
            denied += decision.verdict == "deny"
            kept = list(broken.leaves()) if decision.allowed else []
            assert not kept or root([leaf_hash(leaf) for leaf in kept]) == checkpoint.root
            with suppress(Conflict):
                append(broken, event())
    assert denied > 5


def _write(folder: Path, events: int) -> None:
    ledger = opened(folder)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: count(ledger), range(events)))
    ledger.checkpoint()
    ledger.close()


def test_four_processes_with_eight_threads_each_leave_no_gap_and_lose_no_count(tmp_path: Path) -> None:
    """They make the file at once, too."""
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(tmp_path, 150)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 4
    ledger = opened(tmp_path)
    assert whole(ledger) == 600
    assert ledger.checkpoint().root == root([leaf_hash(leaf) for leaf in ledger.leaves()])
    ledger.close()


def _hog(folder: Path, stop: threading.Event) -> None:
    ledger = opened(folder)
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda _: _until(ledger, stop), range(32)))
    ledger.close()


def _until(ledger: SqliteLedger, stop: threading.Event) -> None:
    while not stop.is_set():
        append(ledger, event())


def test_a_process_that_writes_all_the_time_does_not_keep_another_out(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    hog = spawn.Process(target=_hog, args=(tmp_path, stop))
    hog.start()
    try:
        ledger = SqliteLedger(tmp_path / "ledger.db", tmp_path / "key", busy_seconds=10)
        reach(lambda: next(ledger.leaves(), None) is not None, threading.Event())
        mine = 0
        for _ in range(30):
            append(ledger, event("a.b", "model/other"))
            mine += 1
    finally:
        stop.set()
        hog.join(60)
    assert hog.exitcode == 0
    events = [str(e.subject) for e in ledger.events()]
    assert events.count("model/other") == mine == 30
    assert len(events) > 100, "the other one wrote as well"
    ledger.close()


def test_a_damaged_database_is_not_written_to(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    append(ledger, event("a.b", "model/delay", put("k", x=1)))
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("UPDATE frontier SET size = 5")
        connection.commit()
    ledger = opened(tmp_path)
    with pytest.raises(Conflict, match="changed from outside"):
        append(ledger, event())
    assert ledger.get("thing", "k") == {"x": 1}
    assert audited(ledger).verdict == "deny"
    ledger.close()
