"""How fast the ledger is, each figure beside the limit that the machine set in the same run.

python benchmarks/ledger.py [folder]     (the folder decides which disk is measured)
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.signing import verifier
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.governance.rules import verify

SECONDS = 2.0
NOW = datetime(2013, 5, 1, tzinfo=UTC)
BY = Actor("bench", "service", ("service",))


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


def appends(ledger: SqliteLedger, size: int) -> float:
    def work(n: int) -> None:
        with ledger.transaction() as tx:
            for part in range(size):
                tx.append(an_event(n * size + part))

    return rate(work, size)


def verification(ledger: SqliteLedger) -> float:
    ledger.checkpoint()
    events = sum(1 for _ in ledger.leaves())
    start = time.perf_counter()
    with ledger.evidence() as evidence:
        decision = verify(evidence, verifier(ledger.vkey), now=NOW)
    assert decision.allowed, decision
    return events / (time.perf_counter() - start)


def hashes(ledger: SqliteLedger) -> float:
    """The limit of verification: the bare hashing of the same leaves, read from the same file."""
    start = time.perf_counter()
    count = sum(1 for leaf in ledger.leaves() if hashlib.sha256(leaf).digest())
    return count / (time.perf_counter() - start)


def proof_ms(ledger: SqliteLedger) -> float:
    start = time.perf_counter()
    ledger.prove(7)
    return (time.perf_counter() - start) * 1000


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        ledger = SqliteLedger(place / "ledger.db", place / "key")
        limit = syncs(place)
        one = appends(ledger, 1)
        limit = (limit + syncs(place)) / 2  # before and after: the disk's own speed drifts
        hundred = appends(ledger, 100)
        checked, bare = verification(ledger), hashes(ledger)
        size = ledger.checkpoint().size
        for what, seen, wanted, of in (
            ("1 event per transaction", one, limit, "fdatasync/s in the same folder"),
            ("100 events per transaction", hundred, limit, "fdatasync/s in the same folder"),
            ("verification", checked, bare, "leaves/s read and hashed once"),
        ):
            print(f"{what + ':':28}{seen:9.0f} events/s   {seen / wanted:6.2f} of {wanted:.0f} {of}")
        print(f"one proof among {size}: {proof_ms(ledger):.0f} ms")
        ledger.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
