"""Checking every flight of a year by its contract, against the same expressions as one bare polars query."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from examples.flights import source
from falaj.stages.contracts import odcs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.rules import check, rules_of

ROUNDS = 7


def main() -> None:
    """Prints one line: the ratio, and the two times. Rounds alternate, so that both see the same machine."""
    rows = source.flights(None, datetime(2015, 1, 1, tzinfo=UTC))
    contract = odcs.read((Path(source.__file__).parent / "contracts/flights.odcs.yaml").read_bytes(), "flights.odcs.yaml")
    bare = _bare(rows, contract)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_seconds(lambda: check(rows, contract)))
        theirs.append(_seconds(bare))
    checked = check(rows, contract)
    ratio = min(ours) / min(theirs)
    print(
        f"contracts: {len(checked.checks)} checks over {checked.rows:,} rows in {min(ours) * 1000:.0f} ms, "
        f"{ratio:.2f}x one bare polars query ({min(theirs) * 1000:.0f} ms), {checked.quarantined} rows in quarantine"
    )


def _bare(rows: pl.DataFrame, contract: Contract) -> Callable[[], object]:
    """What somebody would write by hand who knows the rules: one select that counts what breaks each, without casts or split."""
    numbers = [column.name for column in contract.columns if column.kind == "number"]
    finite = [(~pl.col(name).is_finite()).sum().alias(f"finite {name}") for name in numbers]
    rules = [rule for rule in rules_of(contract, rows.schema) if " is a finite " not in rule.name]
    wanted = [rule.broken.sum().alias(rule.name) for rule in rules]
    return lambda: rows.lazy().select(*finite, *wanted).collect()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
