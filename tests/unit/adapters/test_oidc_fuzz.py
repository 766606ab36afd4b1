"""A few rounds of the fuzzer of the provider's tokens; `python -m tests.fuzz.claims --rounds N` runs more."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.claims import GOOD, WAYS, tried


@pytest.mark.parametrize("seed", range(4))
def test_nobody_becomes_more_than_the_provider_said(seed: int) -> None:
    chance = random.Random(seed)
    seen = [tried(chance) for _ in range(400)]
    assert len({what.partition(":")[0] for what in seen}) == len(WAYS)
    assert "said_by_the_provider: read" in seen
    assert GOOD.count(".") == 2
