from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.packs import Value
from falaj.stages.privacy.clocks import clocks_of
from falaj.stages.privacy.clocks import shipped as shipped_clocks
from falaj.stages.privacy.periods import Bound, Period
from falaj.stages.privacy.terms import MOST_BYTES, Term, parse_terms, read_terms, shipped, terms_from, terms_of

GOOD = b"""
[pack]
id = "mine"
[retention.visits]
floor = "5y"
ceil = "7y"
from = "relationship_end"
status = "enacted"
instrument = "Some Law 1"
"""


def told(error: FalajError) -> None:
    assert error.hint


def test_a_pack_is_read_whole() -> None:
    [term] = parse_terms(GOOD, "mine.toml")
    ends = (Bound(Period(60), "relationship_end"), Bound(Period(84), "relationship_end"))
    assert term == Term("visits", "mine", *ends, "enacted", "Some Law 1")
    assert term.is_law
    assert term.id == "mine:visits"


def test_what_is_shipped_carries_its_provenance() -> None:
    floors = {term.id: term for term in shipped() if term.floor is not None}
    ceilings = {term.id: term for term in shipped() if term.ceiling is not None}
    assert floors["health-ae:health_record"].floor == Bound(Period(300), "last_procedure")
    assert floors["cbuae-bank:consumer_data"].floor == Bound(Period(60), "relationship_end")
    assert ceilings["cbuae-bank:consumer_data"].ceiling == Bound(Period(60, 90), "relationship_end")
    assert floors["cbuae-bank:model_version_ever_in_production"].floor == Bound(Period(is_forever=True))
    assert floors["ae-baseline:training_snapshot"].floor == Bound(Period(60), "life_of_model")
    assert ceilings["house:quarantine"].ceiling == Bound(Period(12))
    assert all(term.instrument for term in shipped() if term.is_law)
    assert {term.name for term in shipped() if not term.is_law} >= {"audit_log", "prediction_log", "training_snapshot"}


def test_a_value_of_a_pack_that_means_nothing_here_is_told() -> None:
    value = Value("retention.visits.ceilling", "5y", "ceiling", "assumed", "mine")
    with pytest.raises(InvalidInput, match="means nothing here"):
        terms_from([value])
    assert {clock.regime: str(clock.answer) for clock in shipped_clocks()} == {"internal": "21d", "adgm": "2m"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('floor = "5y"', 'floor = "5 years"', r"\[retention.visits\] in mine.toml: '5 years' is not a period"),
        ('floor = "5y"', "floor = 5", "floor must be a text"),
        ('from = "relationship_end"', 'from = "tomorrow"', "'tomorrow' is nothing that a period can run from"),
        ('status = "enacted"', 'status = "enacted!"', "no status in"),
        ('instrument = "Some Law 1"', "", "is enacted, and names no instrument"),
        ('ceil = "7y"', 'ceil = "forever"', "a ceiling of `forever` is none"),
        ('ceil = "7y"', 'ceiling = "7y"', "has a field 'ceiling', which means nothing"),
        ("[retention.visits]", "[retention.Visits]", "'Visits' is no name for a class"),
        ('id = "mine"', "", "does not say which pack it is"),
        ('id = "mine"', "id = 7", "does not say which pack it is"),
        ("[pack]", "[[pack]]", "does not say which pack it is"),
        ("[retention.visits]", "[[retention.visits]]", "is no table"),
        ("[pack]", "[pack", "is no TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_nothing_of_the_file_is_taken(old: str, new: str, message: str) -> None:
    with pytest.raises((InvalidInput, NotFound), match=message) as caught:
        parse_terms(GOOD.replace(old.encode(), new.encode()), "mine.toml")
    assert caught.value.hint


def test_a_wrong_word_offers_the_near_ones() -> None:
    with pytest.raises(NotFound) as caught:
        parse_terms(GOOD.replace(b"instrument", b"instrment"), "mine.toml")
    assert caught.value.hint == "did you mean 'instrument'?"


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    path.write_bytes(GOOD + b"#" * MOST_BYTES)
    with pytest.raises(InvalidInput, match="is larger than"):
        read_terms(path)
    with pytest.raises(NotFound):
        read_terms(tmp_path / "missing.toml")
    with pytest.raises(InvalidInput):
        read_terms(tmp_path)


@given(st.binary(max_size=400))
def test_any_bytes_are_terms_or_an_error_that_says_what_to_do(data: bytes) -> None:
    try:
        parse_terms(data, "fuzz.toml", "fuzz")
    except FalajError as exc:
        told(exc)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_one_changed_byte_is_terms_or_an_error(place: int, byte: int) -> None:
    try:
        found = parse_terms(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :], "fuzz.toml")
    except FalajError as exc:
        told(exc)
    else:
        assert all(term.instrument for term in found if term.is_law)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["pack", "retention", "clock", "x"]), VALUES, max_size=4) | VALUES)
def test_any_tables_are_terms_or_an_error(body: Any) -> None:
    for read in (lambda: terms_of(body, "fuzz", "fuzz"), lambda: clocks_of(body if isinstance(body, dict) else {}, "fuzz")):
        try:
            read()
        except FalajError as exc:
            told(exc)
