"""Damaged tables, registries and addresses are read or refused; `python -m tests.fuzz.places` runs more."""

from __future__ import annotations

import pytest

from tests.fuzz.places import run


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_damaged_is_read_or_refused_and_slips_into_no_zone(seed: int) -> None:
    seen = run(700, seed)
    assert seen["address unknown"] > 200
    assert seen["table invalid_input"] > 50
    assert seen["registry invalid_input"] > 50
