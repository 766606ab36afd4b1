"""Whatever a file holds, the readers answer with rows or say what is wrong; `python -m tests.fuzz.readers` runs more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import VALID, mutated, read

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MADE = {name: write() for name, write in VALID.items()}
ANSWERS = ("rows", "InvalidInput")


@pytest.mark.parametrize("name", sorted(VALID))
def test_a_file_that_nobody_harmed_has_its_rows(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, name, MADE[name], typed=True, known=True) == "rows"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(VALID))
@QUIET
@given(seed=st.integers(0, 2**32), typed=st.booleans())
def test_a_file_with_harm_gives_rows_or_says_what_is_wrong(name: str, tmp_path: Path, seed: int, *, typed: bool) -> None:
    data = mutated(MADE[name], random.Random(seed))
    assert read(tmp_path, name, data, typed=typed, known=typed) in ANSWERS


@QUIET
@given(data=st.binary(max_size=300), name=st.sampled_from(sorted(VALID)))
def test_any_bytes_at_all_give_rows_or_say_what_is_wrong(data: bytes, name: str, tmp_path: Path) -> None:
    assert read(tmp_path, name, data, typed=False, known=False) in ANSWERS


@QUIET
@given(text=st.text(alphabet='ab1,;"\n\r\t \\\0é{}[]:', max_size=80), name=st.sampled_from(["a.csv", "a.jsonl"]))
def test_any_text_gives_rows_or_says_what_is_wrong(text: str, name: str, tmp_path: Path) -> None:
    assert read(tmp_path, name, text.encode(), typed=False, known=False) in ANSWERS
