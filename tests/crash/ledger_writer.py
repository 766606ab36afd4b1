"""A process that appends to a ledger and prints each seq once it was committed. The test kills it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from falaj.adapters.local.ledger import SqliteLedger
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.ref import Ref


def main(folder: Path, name: str, count: int) -> None:
    ledger = SqliteLedger(folder / "ledger.db", folder / "key")
    for n in range(count):
        with ledger.transaction() as tx:
            seen = dict(tx.get("counter", "all") or {"n": 0})
            body = {"n": seen["n"] + 1}
            event = Event(
                "count.up",
                Ref("counter", name),
                Actor(name, "service"),
                datetime.now(UTC),
                {"n": n},
                (Change("counter", "all", body),),
            )
            event = tx.append(event)
        sys.stdout.write(f"{event.seq}\n")
        sys.stdout.flush()
        if n % 10 == 9:
            ledger.checkpoint()
    ledger.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
