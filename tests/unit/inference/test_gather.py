"""A batch begins when a look brings nobody more, and never waits for one who is not there."""

import asyncio
from collections.abc import Sequence

import pytest

from falaj.inference.gather import Gather


@pytest.mark.parametrize(
    ("arrivals", "answered"),
    [
        ([1], [1]),
        ([1, 1, 1], [3]),
        ([2, 0, 3], [2, 3]),
        ([4, 3, 5], [7, 5]),
        ([9], [9]),
        ([0, 1, 0, 0, 2], [1, 2]),
    ],
)
def test_those_who_come_in_turns_without_a_gap_are_answered_together(arrivals: Sequence[int], answered: Sequence[int]) -> None:
    """`arrivals`: how many come in each turn of the loop; with 6 that wait there is no need for another look."""
    found: list[int] = []

    async def run() -> None:
        waiting = 0

        def answer() -> None:
            nonlocal waiting
            found.append(waiting)
            waiting = 0

        gather = Gather(lambda: waiting, 6, answer)
        for count in arrivals:
            if count and not waiting:
                gather.begin()
            waiting += count
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert found == list(answered)
