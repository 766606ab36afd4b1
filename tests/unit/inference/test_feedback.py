"""What is taken as a label, of a prediction or of a unit, and what is refused and named."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import Conflict, FalajError, InvalidInput
from falaj.core.masking import masking
from falaj.core.recipe import Recipe
from falaj.core.segment import PredictionId
from falaj.inference.feedback import Label, read_labels
from falaj.inference.mask import NOTHING, Mask

KEY = b"k" * 32
NOW = datetime(2013, 5, 2, tzinfo=UTC)
ID = PredictionId(0, 0, 1367400600000).issue(KEY)
LABEL = {"id": ID, "label": 1, "at": "2013-05-01T12:00:00Z"}
OF_UNIT = {"unit": "f-1", "label": 1, "at": "2013-05-01T12:00:00Z"}


def read(*rows: Any, now: datetime | None = NOW) -> list[Label]:
    return read_labels(json.dumps({"labels": rows}).encode(), KEY, now)


def test_a_label_of_a_unit_means_its_latest_prediction_or_those_of_a_window() -> None:
    latest, window = read(OF_UNIT, {**OF_UNIT, "since": "2013-05-01T00:00:00Z", "until": "2013-05-01T06:00:00Z"})
    assert latest.record(NOTHING) == {"kind": "label", "unit": "f-1", "at": "2013-05-01T12:00:00.000Z", "label": 1}
    assert (window.since, window.until) == (datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 5, 1, 6, tzinfo=UTC))
    assert window.record(NOTHING)["until"] == "2013-05-01T06:00:00.000Z"


def test_a_whole_number_names_a_unit_as_it_does_in_a_request() -> None:
    assert read({**OF_UNIT, "unit": 5})[0].unit == "5"


def test_null_withdraws_what_was_said() -> None:
    assert [label.record(NOTHING)["label"] for label in read({**LABEL, "label": None}, {**OF_UNIT, "label": None})] == [
        None,
        None,
    ]


def test_units_and_facts_of_a_label_are_masked_like_those_of_a_request() -> None:
    mask = Mask(masking({"who": "hash", "note": "drop"}), b"key", [(Recipe((), {}, {}), {})], unit="who")
    record = read({**OF_UNIT, "facts": {"note": "f-1 was late", "minutes": 20}})[0].record(mask)
    assert record["unit"] == mask.unit("f-1") == mask.request({"who": "f-1"})["who"]
    assert record["facts"] == {"note": None, "minutes": 20}
    assert "f-1" not in json.dumps(record)


@pytest.mark.parametrize(
    "changes",
    [
        {"unit": ""},
        {"unit": None},
        {"unit": True},
        {"unit": ["f-1"]},
        {"unit": "x" * 201},
        {"id": ID},
        {"label": "1"},
        {"label": 1e300},
        {"since": "2013-05-01T13:00:00Z"},
        {"until": "2013-05-01T11:00:00Z"},
        {"since": "2013-05-01T11:00:00Z", "until": "2013-05-01T10:00:00Z"},
        {"since": 5},
        {"at": "2013-05-03T00:00:00Z"},
    ],
)
def test_a_label_of_a_unit_that_means_nothing_is_refused_and_named(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"labels\[1\]"):
        read(OF_UNIT, {**OF_UNIT, **changes})


def test_a_label_of_an_id_has_no_window() -> None:
    with pytest.raises(InvalidInput, match="no window"):
        read({**LABEL, "since": "2013-05-01T00:00:00Z"})


def test_a_label_from_before_its_prediction_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="label before its prediction") as caught:
        read(LABEL, {**LABEL, "at": "2013-05-01T09:29:59Z"})
    assert caught.value.facts["index"] == 1


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.just(ID)
)
NAMES = st.sampled_from(["id", "unit", "label", "at", "since", "until", "facts", "x"])


@given(st.lists(st.dictionaries(NAMES, VALUES | st.just("2013-05-01T12:00:00Z"), max_size=6), max_size=4))
def test_anything_is_either_read_or_refused(rows: list[Any]) -> None:
    try:
        found = read(*rows)
    except FalajError as exc:
        refused = exc.http_status
        assert refused in (400, 409, 422)
        return
    for label in found:
        assert bool(label.id) != bool(label.unit)
        json.dumps(label.record(NOTHING))
