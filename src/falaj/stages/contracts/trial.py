"""A trial: what a load would be worth, check by check, without taking anything in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import polars as pl

from falaj.core.decision import Check, Decision
from falaj.core.errors import NotFound
from falaj.core.moments import moment
from falaj.core.wording import count
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.figures import BETWEEN, scope
from falaj.stages.contracts.load import pieces
from falaj.stages.contracts.reading import promise
from falaj.stages.contracts.rows import KINDS, bound_text
from falaj.stages.contracts.rules import REASONS, ROW, Around, Rule, check
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset

RULE = "test"
SHOWN = 10
"""Row numbers of a failed check; how many there are is told as well."""

TELLS = ("warning: ", "info: ")
SCOPES = ("load: ", "stop: ", *TELLS)
"""What stands before the name of a check that does not keep single rows out."""


def judge(contracts: Contracts, name: str, until: datetime, *, everything: bool = False) -> Decision:
    """Every check of the contract on what the source has to give, with how many rows broke it and which.

    Judged is what the next load would bring, or with `everything` all that became known up to `until`. Rows are counted from
    0, as the source hands them out and as `_row` counts them in quarantine. With `everything`, what compares a load with the
    one before (`growth`, `drift`) is not judged: everything is not one load. Deny where a row or the load would be kept out;
    what only warns does not deny. Raises NotFound for an unknown dataset, Unavailable where the source fails,
    InvalidInput where it or the contract cannot be read.
    """
    declared = _declared(contracts, name)
    contract = contracts.contract(name)
    mark = None if everything else contracts.look(name)["watermark"]
    since = moment(mark) if mark else None
    if since is not None and since >= moment(until):
        return Decision(
            declared.ref, RULE, "hold", (), None, None, f"everything until {mark} was taken in; --everything looks again"
        )
    contract, apart = _apart(contract) if everything and not declared.brings_all else (contract, ())
    frame = rows_of(contracts, declared, since, until)
    also = () if declared.brings_all else promise(declared, since, until)
    around = contracts.around(name, until)
    judged = check(frame, contract, also=also, around=around)
    which = _which(frame, contract, also, around) if any(item.passed is False for item in judged.checks) else {}
    checks = (*(_told(item, which) for item in judged.checks), *apart)
    failed = [item for item in checks if item.passed is False and not item.name.startswith(TELLS)]
    unseen = [item.name for item in judged.checks if item.passed is None]
    reason = judged.stopped or f"{judged.quarantined:,} of {count(judged.rows)} would go to quarantine"
    reason += f"; not seen: {', '.join(unseen[:5])}" if unseen else ""
    reason += f"; not judged: {', '.join(item.name for item in apart[:5])}" if apart else ""
    return Decision(declared.ref, RULE, "deny" if failed or judged.stopped else "allow", checks, None, None, reason)


def names_of(contract: Contract) -> tuple[str, ...]:
    """The names of the checks that a load of the stated types is put to."""
    schema = {column: KINDS[kind] for column, kind in contract.kinds.items()}
    return tuple(item.name for item in check(pl.DataFrame(schema=schema), contract).checks)


def rows_of(contracts: Contracts, declared: Dataset, since: datetime | None, until: datetime) -> pl.DataFrame:
    """What the source of a dataset hands out for (since, until]. Raises Unavailable, MissingDependency, InvalidInput."""
    return pl.concat(list(pieces(contracts.source(declared.name), declared, since, until)))


def _apart(contract: Contract) -> tuple[Contract, tuple[Check, ...]]:
    """The contract without what compares one load with the load before, and that, told as not judged."""
    rest = tuple(quality for quality in contract.checks if quality.metric not in BETWEEN)
    apart = tuple(quality for quality in contract.checks if quality.metric in BETWEEN)
    return replace(contract, checks=rest), tuple(
        Check(f"{scope(quality)}{quality.name}", bound_text(quality, ""), "not judged: everything is not one load", None)
        for quality in apart
    )


def _declared(contracts: Contracts, name: str) -> Dataset:
    if name not in contracts.datasets:
        raise NotFound.named("dataset", name, contracts.datasets)
    return contracts.datasets[name]


def _which(frame: pl.DataFrame, contract: Contract, also: tuple[Rule, ...], around: Around) -> dict[str, list[int]]:
    """Name of a rule → the first rows that break it, whatever its severity."""
    number = "_row" + "_" * max(map(len, frame.columns), default=0)
    strict = tuple(replace(quality, severity="error") for quality in contract.checks if quality.of_rows)
    judged = check(
        frame.with_row_index(number, offset=0), replace(contract, checks=strict), also=also, whole=False, around=around
    )
    found: dict[str, list[int]] = {}
    for row, reasons in judged.bad.select(number, REASONS).iter_rows() if number in judged.bad.columns else ():
        for reason in reasons:
            rows = found.setdefault(reason, [])
            if len(rows) <= SHOWN:
                rows.append(row)
    return found


def _told(item: Check, which: Mapping[str, list[int]]) -> Check:
    name = next((item.name.removeprefix(scope) for scope in SCOPES if item.name.startswith(scope)), item.name)
    rows = which.get(name, []) if item.passed is False else []
    if not rows:
        return item
    shown = ", ".join(map(str, rows[:SHOWN])) + (", …" if len(rows) > SHOWN else "")
    return replace(item, seen=f"{item.seen}: {ROW} {shown}")
