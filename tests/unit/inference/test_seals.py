"""A segment is sealed a bite at a time, and its seal does not depend on where the bites fall."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core import segment
from falaj.inference import seals

LINE = b'{"kind":"prediction","id":"p0-%x","at":"2013-05-%02dT09:30:00.000Z","score":0.5}\n'


@given(
    st.lists(st.integers(1, 28), max_size=40), st.integers(1, 500), st.binary(max_size=30).filter(lambda rest: b"\n" not in rest)
)
def test_the_seal_is_that_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], bite: int, rest: bytes
) -> None:
    """Also where lines are longer than a bite, and where the file ends in half a line that was never acknowledged."""
    path = tmp_path_factory.mktemp("log") / "000007.jsonl"
    data = b"".join(LINE % (number, day) for number, day in enumerate(days))
    path.write_bytes(data + rest)
    pauses: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seals, "BITE", bite)
        found = seals.sealed("delay", 7, path, lambda: pauses.append(1))
    first, last = (f"2013-05-{day:02d}T09:30:00.000Z" if days else "" for day in (min(days or [0]), max(days or [0])))
    assert found == segment.seal("delay", 7, data, first, last)
    assert len(pauses) <= len(days)
    assert len(pauses) >= min(len(days), len(data) // max(bite, len(LINE) + 20) // 2)


def test_what_waits_to_be_sealed_is_known_while_it_is_sealed(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number:06d}.jsonl").write_bytes(LINE % (number, 1))
    sealer = seals.Sealer(tmp_path, "delay", idle_s=0.0)
    seen: list[int] = []
    sealer.pause = lambda: seen.append(sealer.behind)
    sealer.look()
    assert seen == [3, 2, 1]
    assert sealer.behind == 0
    sealer.close()
