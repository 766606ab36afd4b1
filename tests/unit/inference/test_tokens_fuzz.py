"""A few rounds of the token fuzzer; `python -m tests.fuzz.tokens --rounds N` runs more."""

import random
from collections import Counter
from pathlib import Path

from tests.fuzz.tokens import WAYS, reader, tried


def test_no_mutation_makes_anybody_more_than_the_issuer_said(tmp_path: Path) -> None:
    tokens, chance = reader(tmp_path), random.Random(11)
    seen = Counter(tried(tokens, chance).partition(":")[0] for _ in range(1500))
    assert set(seen) == {make.__name__ for make, _ in WAYS}
