"""How fast the ledger is, each figure beside the limit that the machine set in the same run.

python -m benchmarks.ledger [folder]     (the folder decides which disk is measured)

Writers are threads that wait until their one event is durable before they write the next. Three limits stand beside them:
how often the disk makes 4 KiB durable, one after the other; the same rows put into a bare table with its indexes, as many in a
commit as there are writers; and, for verification, the leaves read and hashed once.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from falaj.adapters.ledgers.batch import Batch, BatchTransaction
from falaj.adapters.local.keys import OneKey
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.signing import SigningKey, verifier
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.merkle import Frontier
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger
from falaj.stages.governance.rules import verify

SECONDS = 3.0
NOW = datetime(2013, 5, 1, tzinfo=UTC)
BY = Actor("bench", "service", ("service",))
WRITERS = (1, 16, 64, 256)
PROCESSES = 4


def an_event(n: int) -> Event:
    body = {"model": f"model/delay@{n}", "since": "2013-05-01T00:00:00.000Z", "by": "service:bench"}
    return Event("model.promote", Ref("model", "delay", str(n)), BY, NOW, {"n": n}, (Change("alias", f"delay-{n % 100}", body),))


def rate(work: Callable[[int], None], each: int = 1) -> float:
    """How many of `each` per second, over at least SECONDS."""
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        work(rounds)
        rounds += 1
    return rounds * each / (time.perf_counter() - start)


def syncs(folder: Path) -> float:
    """The physical limit: 4 KiB overwritten in place and made durable, one after the other.

    In place, as a write-ahead log is after its first round: a file that grows pays for its metadata too, and would flatter us.
    """
    block = os.urandom(4096)
    (folder / "sync").write_bytes(block * 1024)
    with (folder / "sync").open("r+b", buffering=0) as file:
        os.fsync(file.fileno())

        def work(n: int) -> None:
            file.seek(n % 1024 * 4096)
            file.write(block)
            os.fdatasync(file.fileno())

        return rate(work)


def bare(folder: Path, each: int) -> float:
    """Ready-made rows into a bare table with the ledger's indexes, `each` in a commit: SQLite itself, without any of falaj."""
    batch = Batch(None, Frontier())  # type: ignore[arg-type]
    tx = BatchTransaction(batch)
    for n in range(each):
        tx.append(an_event(n))
    rows = [row[1:] for row in tx.rows]
    connection = sqlite3.connect(folder / f"bare-{each}.db", isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE events(seq INTEGER PRIMARY KEY, leaf BLOB, "
        "leaf_hash BLOB, verb TEXT, subject TEXT, at TEXT); CREATE INDEX by_verb ON events(verb, seq); "
        "CREATE INDEX by_subject ON events(subject, seq)"
    )

    def work(_: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events(leaf, leaf_hash, verb, subject, at) VALUES(?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")

    found = rate(work, each)
    connection.close()
    return found


def writers(ledger: Ledger, count: int) -> tuple[float, list[float]]:
    """Events per second, and the sorted times in ms that each waited for its acknowledgement."""
    stop, waited = time.perf_counter() + SECONDS, list[float]()

    def write() -> None:
        n = 0
        while time.perf_counter() < stop:
            begun = time.perf_counter()
            with ledger.transaction() as tx:
                tx.append(an_event(n))
            waited.append((time.perf_counter() - begun) * 1000)
            n += 1

    threads = [threading.Thread(target=write) for _ in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(waited) / (time.perf_counter() - start), sorted(waited)


def _process(folder: Path, count: int, answer: Any) -> None:
    ledger = SqliteLedger(folder / "shared.db", folder / "key")
    answer.put(writers(ledger, count)[0])
    ledger.close()


def processes(folder: Path, count: int) -> list[float]:
    """Events per second of each of four processes that write one ledger at once."""
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    started = [spawn.Process(target=_process, args=(folder, count, answer)) for _ in range(PROCESSES)]
    for one in started:
        one.start()
    found = [answer.get() for _ in started]
    for one in started:
        one.join()
    return found


def verification(ledger: SqliteLedger) -> tuple[float, float]:
    """Events per second of processor time, and what reading and hashing the same leaves once takes."""
    ledger.checkpoint()
    events = sum(1 for _ in ledger.leaves())
    begun = time.process_time()
    with ledger.evidence() as evidence:
        decision = verify(evidence, verifier(ledger.vkey), now=NOW)
    checked = events / (time.process_time() - begun)
    assert decision.allowed, decision
    begun = time.process_time()
    with ledger.evidence() as evidence:
        for stored in evidence.events():
            sha256(stored.leaf).digest()
    return checked, events / (time.process_time() - begun)


def proof_ms(ledger: SqliteLedger) -> float:
    start = time.perf_counter()
    ledger.prove(7)
    return (time.perf_counter() - start) * 1000


def figures(place: Path) -> Iterator[Figure]:
    limit = syncs(place)
    yield Figure("4 KiB made durable in place", limit, "/s", note="the disk's own limit")
    for count in WRITERS:
        ledger = SqliteLedger(place / f"ledger-{count}.db", place / "key")
        base = bare(place, count)
        found, waited = writers(ledger, count)
        ledger.close()
        note = f"{_waits(waited)}; {found / base:.2f} of bare SQLite"
        floor = 10_000 if count == max(WRITERS) else None
        yield Figure(f"{count} writers", found, "/s", "fdatasync", found / limit, note=note, floor=floor)
    for count in (1, 64):
        each = processes(place, count)
        note = f"slowest {min(each):.0f}, fastest {max(each):.0f}"
        yield Figure(f"{PROCESSES} processes of {count} writers", sum(each), "/s", "fdatasync", sum(each) / limit, note=note)
    ledger = SqliteLedger(place / "large.db", place / "key")
    yield Figure("1,000 events in one transaction", rate(lambda n: large(ledger, n), 1000), "/s")
    checked, read = verification(ledger)
    size = ledger.checkpoint().size
    note = f"{size} events, in processor time; {checked / read:.2f} of reading and hashing once"
    yield Figure("verification", checked, "/s", note=note, floor=100_000)
    yield Figure("one proof", proof_ms(ledger), "ms", note=f"among {size}")
    ledger.close()
    with postgresql(place) as shared:
        for count in WRITERS if shared else ():
            found, waited = writers(shared, count)
            yield Figure(f"PostgreSQL, {count} writers", found, "/s", "fdatasync", found / limit, note=_waits(waited))


def _waits(waited: list[float]) -> str:
    return f"p50 {waited[len(waited) // 2]:.1f} ms, p99 {waited[len(waited) * 99 // 100]:.1f} ms"


def large(ledger: SqliteLedger, n: int) -> None:
    with ledger.transaction() as tx:
        for part in range(1000):
            tx.append(an_event(n * 1000 + part))


@contextmanager
def postgresql(place: Path) -> Iterator[Any]:
    """A ledger in a PostgreSQL of its own that synchronises as usual; None where PostgreSQL is not installed."""
    if not any(Path("/usr/lib/postgresql").glob("*/bin")):
        yield None
        return
    from falaj.adapters.postgres.ledger import PostgresLedger
    from tests.kits.servers import postgresql_server

    place.chmod(0o711)
    with postgresql_server(place / "server", 0, "-c", "fsync=on") as url:
        ledger = PostgresLedger(url, "bench", keys=OneKey(SigningKey.generate()), busy_seconds=30)
        yield ledger
        ledger.close()


def main(folder: Path) -> int:
    missed = False
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for figure in figures(Path(name)):
            print(figure, flush=True)
            missed |= figure.is_missed
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()))
