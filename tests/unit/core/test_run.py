from __future__ import annotations

import itertools

import pytest

from falaj.core.errors import Conflict
from falaj.core.run import MOVES, Run


@pytest.mark.parametrize(("start", "end"), list(itertools.product([*MOVES, "unheard of"], repeat=2)))
def test_a_run_makes_the_moves_of_the_table_and_no_other(start: str, end: str) -> None:
    run = Run("r1", "train", state=start)
    if end in MOVES.get(start, ()):
        assert run.move(end, failure="x") == Run("r1", "train", state=end, failure="x")
    else:
        with pytest.raises(Conflict, match=f"is {start}; it cannot become {end}"):
            run.move(end)


def test_what_is_over_stays_over() -> None:
    assert not MOVES["succeeded"]
    assert not MOVES["cancelled"]
