"""What diff promises, tried on data: whoever is not named as broken is not broken by any rows at all."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from falaj.stages.contracts.contract import Column, Contract, Quality
from falaj.stages.contracts.diff import diff
from falaj.stages.contracts.rules import check

_SMALL = st.integers(-4, 4) | st.sampled_from([-0.5, 0.5, 1.5, 200, -200])
_WORDS = ["a", "ab", "b", "", "abc"]


@st.composite
def numbers(draw: st.DrawFn) -> Contract:
    kind = draw(st.sampled_from(["integer", "number"]))
    limits = tuple((op, draw(_SMALL)) for op in (">=", ">", "<=", "<") if draw(st.integers(0, 3)) == 0)
    column = Column(
        "x",
        kind,
        required=draw(st.booleans()),
        unique=draw(st.booleans()),
        width=draw(st.sampled_from(["", "i8", "i16", "u8"])) if kind == "integer" else "",
        limits=limits,
        multiple_of=draw(st.sampled_from([None, None, 1, 2, 0.5, 3])),
    )
    return Contract("t", "1.0.0", "", (column,), draw(rules(("nullValues", "duplicateValues", "rowCount"))))


@st.composite
def texts(draw: st.DrawFn) -> Contract:
    column = Column(
        "x",
        "string",
        required=draw(st.booleans()),
        unique=draw(st.booleans()),
        pattern=draw(st.sampled_from(["", "", "^a", "b$"])),
        lengths=(draw(st.none() | st.integers(0, 2)), draw(st.none() | st.integers(1, 3))),
    )
    return Contract("t", "1.0.0", "", (column,), draw(rules(("nullValues", "missingValues", "invalidValues", "rowCount"))))


@st.composite
def rules(draw: st.DrawFn, metrics: tuple[str, ...]) -> tuple[Quality, ...]:
    found = []
    for name in draw(st.lists(st.sampled_from(["p", "q"]), max_size=2, unique=True)):
        metric = draw(st.sampled_from(metrics))
        op = draw(st.sampled_from(["==", "==", "<", "<=", ">=", "between", "not between", "!="]))
        bound: Any = draw(st.integers(0, 3)) if "between" not in op else draw(st.sampled_from([(0, 1), (1, 3), (0, 4)]))
        lists = metric in ("missingValues", "invalidValues")
        values = tuple(draw(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=4, unique=True))) if lists else None
        about = () if metric == "rowCount" else ("x",)
        severity = draw(st.sampled_from(["error", "error", "warning"]))
        found.append(Quality(name, metric, about, op, bound, severity=severity, values=values))
    return tuple(found)


def passes(frame: pl.DataFrame, contract: Contract) -> bool:
    judged = check(frame, contract)
    return not judged.stopped and not judged.quarantined


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contracts", "values", "dtype"),
    [
        (numbers(), st.integers(-5, 5) | st.sampled_from([200, -200, 300]), pl.Int64),
        (numbers(), st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 200.0]), pl.Float64),
        (texts(), st.sampled_from(_WORDS), pl.String),
    ],
    ids=["whole numbers", "numbers", "texts"],
)
def test_whoever_is_not_named_is_not_broken(contracts: Any, values: Any, dtype: Any) -> None:
    @given(contracts, contracts, st.lists(values | st.none(), max_size=5))
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    def tried(old: Contract, new: Contract, rows: list[Any]) -> None:
        frame = pl.DataFrame({"x": pl.Series(rows, dtype=dtype)})
        broken = {side for change in diff(old, new).changes for side in change.breaks}
        fits_old, fits_new = passes(frame, old), passes(frame, new)
        assume(fits_old or fits_new)
        assert "producers" in broken or not fits_old or fits_new, "good data is no longer good, and nobody said so"
        assert "consumers" in broken or not fits_new or fits_old, "data comes that nobody had to expect, and nobody said so"

    tried()
