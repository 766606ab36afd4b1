"""Erases one person in real files and is killed (SIGKILL) at the n-th durable step; with -1 it is never killed.

python -m tests.crash.erasure_kill <folder> begin|resume <n>
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from falaj.adapters.local.blobs import FileBlobs
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.signing import open_key
from falaj.adapters.local.vault import SqliteVault
from tests.kits.privacy import WORKER, House

PERSON, OTHER, REQUEST = "T-1001", "T-2002", "r1"


class Fuse:
    """Counts what lasts; at zero the process is gone, as if the power were."""

    def __init__(self, left: int) -> None:
        self.left = left

    def burn(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


class Burning:
    """Hands everything on; before and after each call that lasts the fuse burns a step."""

    def __init__(self, inner: Any, fuse: Fuse, names: frozenset[str]) -> None:
        self._inner, self._fuse, self._names = inner, fuse, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._fuse.burn()
            result = found(*args, **kwargs)
            self._fuse.burn()
            return result

        return call

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self._fuse.burn()
        with self._inner.transaction() as tx:
            yield tx
        self._fuse.burn()


def house(folder: Path, fuse: Fuse) -> House:
    ledger = SqliteLedger(folder / "ledger.db", folder / "keys" / "ledger.ed25519", "falaj/kill")
    vault = SqliteVault(folder / "vault" / "subjects.db", folder / "keys" / "vault.kek", b"p" * 32)
    blobs = FileBlobs(folder / "blobs")
    made = House(
        folder,
        Burning(ledger, fuse, frozenset()),
        Burning(blobs, fuse, frozenset({"put", "delete"})),
        Burning(vault, fuse, frozenset({"shred", "seal"})),
        open_key(folder / "keys" / "receipt.ed25519"),
    )
    made.register._write = _burning(made.register._write, fuse)  # type: ignore[method-assign]
    return made


def _burning(write: Any, fuse: Fuse) -> Any:
    def call(*args: Any) -> None:
        write(*args)
        fuse.burn()

    return call


def prepare(folder: Path) -> None:
    made = house(folder, Fuse(-1))
    made.snapshot("dataset/visits@1")
    made.model("model/delay@1", "dataset/visits@1")
    for person in (PERSON, OTHER):
        made.register.add(person, f"note of {person}")


def main(folder: Path, what: str, steps: int) -> None:
    made = house(folder, Fuse(steps))
    if what == "begin":
        made.erase(PERSON, REQUEST)
    else:
        for request in made.subjects.unfinished():
            made.subjects.carry_out(WORKER, request)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
