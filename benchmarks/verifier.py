"""How fast the standalone verifier goes through an exported ledger, beside the bare hashing of the same leaves."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figure import Figure, show
from benchmarks.ledger import an_event
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.shelf import FolderShelf
from falaj.auditor import verifier_source
from falaj.core.tiles import ENTRIES, WIDTH, read_entries, tiles_of
from falaj.core.tlog_proof import ProofText, write_proof
from falaj.stages.governance.bundle import export
from falaj.stages.governance.tree import LedgerTree

EVENTS, EACH = 100_000, 1000
"""Events in all, and under each checkpoint."""


def filled(folder: Path) -> SqliteLedger:
    ledger = SqliteLedger(folder / "ledger.db", folder / "key")
    for first in range(0, EVENTS, EACH):
        with ledger.transaction() as tx:
            for n in range(first, first + EACH):
                tx.append(an_event(n))
        ledger.checkpoint()
    return ledger


def bare(bundle: Path) -> float:
    """The least that could be done: every leaf read from its bundle and hashed once."""
    start = time.perf_counter()
    for tile in tiles_of(EVENTS):
        if tile.level == ENTRIES:
            for leaf in read_entries((bundle / tile.path).read_bytes(), min(WIDTH, tile.width)):
                hashlib.sha256(leaf).digest()
    return EVENTS / (time.perf_counter() - start)


def run(folder: Path, *words: str) -> float:
    """Seconds, with the start of Python."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-I", str(folder / "verify.py"), *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "verify.py").write_text(verifier_source())
        ledger = filled(folder)
        bundle, tree = FolderShelf(folder / "bundle"), LedgerTree(ledger.leaves)
        start = time.perf_counter()
        export(bundle, ledger.leaves, tree, ledger.checkpoints(), [])
        exported = EVENTS / (time.perf_counter() - start)
        newest = ledger.checkpoints()[-1]
        start = time.perf_counter()
        for seq in range(0, EVENTS, EVENTS // 200):
            proof = ProofText(seq, tree.inclusion(seq, newest), newest.note, next(ledger.leaves(seq, seq + 1)))
        proving = 200 / (time.perf_counter() - start)
        (folder / "one.tlog-proof").write_text(write_proof(proof))
        rate = EVENTS / run(folder, "bundle", bundle.place, "--vkey", ledger.vkey)
        least = bare(folder / "bundle")
        one_ms = 1000 * run(folder, "proof", str(folder / "one.tlog-proof"), "--vkey", ledger.vkey)
        ledger.close()
    return show(
        (
            Figure("verify.py, a bundle of 100,000 events", rate, "/s", "leaves/s read and hashed once", rate / least),
            Figure("verify.py, one proof, with its start", one_ms, "ms"),
            Figure("laying out a bundle", exported, "/s"),
            Figure("proofs, one after the other", proving, "/s"),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
