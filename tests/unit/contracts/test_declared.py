"""What cannot be meant is refused where it is written, not at the first load."""

from __future__ import annotations

from typing import Any

import pytest

import falaj
from falaj.adapters.tabular import columns
from falaj.core.errors import InvalidInput
from falaj.stages.contracts import sources


@pytest.mark.parametrize(("option", "told"), [("brings", "known, all"), ("new_columns", "drop, allow, hold, deny")])
def test_a_dataset_takes_only_the_words_that_there_are(option: str, told: str) -> None:
    given: dict[str, Any] = {option: "nonsense"}
    with pytest.raises(InvalidInput, match=f"{option} is 'nonsense'") as caught:
        falaj.Dataset("trips", "trips.odcs.yaml", falaj.files("t.csv"), time="at", known="at", **given)
    assert caught.value.hint == f"write one of: {told}."


def test_a_derived_dataset_works_over_what_is_new_or_all() -> None:
    over: Any = "x"
    with pytest.raises(InvalidInput, match="over is 'x'"):
        falaj.Derived(("trips",), sql="SELECT * FROM trips", over=over)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"types": {"a": "nmber"}}, "The type of 'a' is 'nmber'"),
        ({"times": {"a": ("%d/%m/%Y", "Mars/X")}}, "no time zone 'Mars/X'"),
        ({"times": {"a": ("%d/%Q", "UTC")}}, "'%d/%Q' is no format"),
        ({"times": {"a": ("dd/mm", "UTC")}}, "'dd/mm' is no format"),
        ({"times": {"a": "%Y"}}, "not a pair"),
        ({"times": {"a": ("%Y-%m-%d %H:%M", "")}}, "have no zone"),
        ({"times": {"a": ("%Y", "UTC")}, "types": {"a": "number"}}, "is declared as number"),
    ],
)
def test_a_type_a_format_or_a_zone_that_there_is_not_is_refused_where_it_is_written(options: Any, told: str) -> None:
    for declare in (lambda: falaj.files("t.csv", **options), lambda: falaj.postgres("env:URL", table="t", **options)):
        with pytest.raises(InvalidInput, match=told):
            declare()


@pytest.mark.parametrize("text", ["", "%d/%m/%Y %H:%M", "%Y-%m-%dT%H:%M:%S%.3f%:z", "%-d. %b %y, %I %p", "100%% %F %T"])
def test_formats_that_can_be_read_are_taken(text: str) -> None:
    assert falaj.files("t.csv", times={"a": (text, "UTC")}).options["times"] == {"a": (text, "UTC")}


def test_the_types_that_may_be_declared_are_those_that_are_read() -> None:
    assert set(sources.KINDS) == set(columns.KINDS)
