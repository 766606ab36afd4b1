"""Inferring contracts: the data that a contract came from always passes it, and what was guessed is told."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from falaj.core.errors import InvalidInput
from falaj.stages.contracts import guess, odcs
from falaj.stages.contracts.contract import Column
from falaj.stages.contracts.infer import Inferred, infer
from falaj.stages.contracts.lint import lint
from falaj.stages.contracts.rules import check

from .conftest import trips

DTYPES = [
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64, pl.String,
    pl.Boolean, pl.Date, pl.Datetime("ms"), pl.Datetime("us", "Asia/Dubai"), pl.Datetime("ns", "UTC"),
    pl.Categorical, pl.Null, pl.Decimal(20, 4),
]  # fmt: skip


def accepts(found: Inferred, frame: pl.DataFrame) -> None:
    """As written and read back, too: the file is what will be enforced."""
    for contract in (found.contract, odcs.read(found.written)):
        judged = check(frame, contract)
        assert (judged.stopped, judged.quarantined) == ("", 0), [item for item in judged.checks if not item.passed]
        assert all(item.passed for item in judged.checks)


def column(frame: pl.DataFrame, name: str) -> Column:
    found = infer(frame, "t").contract.column(name)
    assert found is not None
    return found


@pytest.mark.slow
@given(dataframes(max_cols=5, max_size=30, allowed_dtypes=DTYPES, allow_null=True))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_data_it_came_from_passes_it(frame: pl.DataFrame) -> None:
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    frame = frame.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)) for name in floats)
    if not frame.width or not all(isinstance(name, str) for name in frame.columns):
        return
    accepts(infer(frame, "t"), frame)


_REAL = st.one_of(
    st.lists(st.integers(-(2**60), 2**60), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), min_size=1, max_size=40),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    st.lists(st.floats(-100, 100), min_size=1, max_size=30),
    st.lists(st.sampled_from(["east", "west"]), min_size=1, max_size=60),
    st.lists(st.from_regex(r"\A[A-Z]{3}\Z"), min_size=1, max_size=40),
    st.lists(st.from_regex(r"\A[a-z]{1,5}@[a-z]{1,5}\.ae\Z"), min_size=1, max_size=10),
    st.lists(st.dates().map(str), min_size=1, max_size=30),
    st.lists(st.text(max_size=5) | st.none(), min_size=1, max_size=30),
)


@pytest.mark.slow
@given(_REAL)
@settings(max_examples=150, deadline=None)
def test_columns_as_they_are_met_pass_their_contract(values: list[Any]) -> None:
    frame = pl.DataFrame({"x": values})
    accepts(infer(frame, "t"), frame)


def test_trips_are_described_as_a_person_would() -> None:
    found = infer(trips(100), "trips", time="at", known="known_at", owner="taxis")
    accepts(found, trips(100))
    contract = found.contract
    assert (contract.key, contract.owner, contract.labels) == (("id",), "taxis", {"classification": "internal"})
    miles, seats = contract.column("miles"), contract.column("seats")
    assert miles is not None
    assert seats is not None
    assert (miles.kind, miles.limits, miles.required) == ("number", ((">=", 0), ("<=", 54)), True)
    assert seats.limits == ((">=", 0), ("<=", 5))
    assert [(rule.name, rule.values) for rule in contract.checks] == [
        ("zone is one of 2", ("east", "west")),
        ("known after it happened", None),
    ]
    assert not [finding for finding in lint(found.written).findings if finding.severity == "error"]


@pytest.mark.parametrize(
    ("values", "pattern", "is_personal"),
    [
        ([f"a{n}@example.ae" for n in range(9)], r"^[^@\s]+@", True),
        ([f"784-19{n}0-1234567-{n}" for n in range(9)], "^784", True),
        ([f"+97150123456{n}" for n in range(9)], r"^\+", True),
        ([f"123e4567-e89b-12d3-a456-42661417400{n}" for n in range(9)], "^[0-9a-fA-F]{8}", False),
        ([str(date(2013, 1, 1) + timedelta(days=n)) for n in range(9)], "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", False),
        ([f"A{chr(65 + n)}C" for n in range(26)], "^[A-Z]{3}$", False),
    ],
)
def test_well_known_forms_are_seen(values: list[str], pattern: str, is_personal: bool) -> None:
    found = infer(pl.DataFrame({"x": values}), "t")
    (described,) = found.contract.columns
    assert described.pattern.startswith(pattern)
    assert described.classification == ("confidential" if is_personal else "")
    assert found.contract.labels["classification"] == ("confidential" if is_personal else "internal")
    assert bool([note for note in found.notes.get("x", ()) if "personal" in note]) == is_personal


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([3, 97], ((">=", 0), ("<=", 110))),
        ([1003, 1997], ((">=", 900), ("<=", 2100))),
        ([-5, -1], ((">=", -6), ("<=", 0))),
        ([0.12, 0.97], ((">=", 0), ("<=", 1.1))),
        ([7, 7], ((">=", 6), ("<=", 8))),
        ([0, 0], ((">=", 0), ("<=", 0))),
        ([2**60, 2**61], ()),
    ],
)
def test_limits_have_slack_and_readable_numbers(values: list[Any], limits: Any) -> None:
    assert column(pl.DataFrame({"x": values}), "x").limits == limits


def test_times_without_a_zone_are_told() -> None:
    found = infer(pl.DataFrame({"at": [datetime(2013, 1, 1)]}), "t", time="at")
    assert found.contract.columns[0].naive_is_utc
    assert "no zone" in found.notes["at"][0]
    assert b"# These times have no zone." in found.written


def test_what_no_contract_can_name_is_left_out_and_told() -> None:
    found = infer(pl.DataFrame({"x": [1], "_y": [1], "z": [[1]]}), "t")
    assert list(found.contract.kinds) == ["x"]
    assert len([note for note in found.notes[""] if note.startswith("Left out")]) == 2


@pytest.mark.parametrize("frame", [pl.DataFrame(), pl.DataFrame({"z": [[1]]}), pl.DataFrame({f"c{n}": [n] for n in range(201)})])
def test_too_few_or_too_many_columns_are_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(InvalidInput, match="1 to 200 columns"):
        infer(frame, "t")


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="should be a time"):
        infer(pl.DataFrame({"x": [1]}), "t", time="x")
    with pytest.raises(InvalidInput, match="no such column"):
        infer(pl.DataFrame({"x": [1]}), "t", known="y")


def test_a_key_may_have_two_parts_and_is_told_as_a_guess() -> None:
    frame = pl.DataFrame({"at": [datetime(2013, 1, d) for d in (1, 1, 2, 2)], "origin": ["JFK", "LGA"] * 2, "x": [0.5] * 4})
    assert infer(frame, "t", time="at").contract.key == ("origin", "at")
    assert infer(pl.DataFrame({"x": [1, 1]}), "t").contract.key == ()


def test_numbers_that_are_not_finite_are_told() -> None:
    found = infer(pl.DataFrame({"x": [1.0, float("nan"), float("inf")]}), "t")
    assert found.notes["x"] == ("2 values are not finite; such rows are always kept out.",)


def test_no_rows_give_types_alone() -> None:
    frame = trips(0)
    found = infer(frame, "t", time="at", known="known_at")
    accepts(found, frame)
    assert [guess.kind_of(dtype) for dtype in frame.dtypes] == list(found.contract.kinds.values())
    assert not any(described.required for described in found.contract.columns)
