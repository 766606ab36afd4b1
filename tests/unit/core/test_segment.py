from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.merkle import inclusion_proof, leaf_hash, root, verify_inclusion
from falaj.core.segment import PredictionId, seal, split

KEY = b"k" * 32
lines = st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=20)


@given(lines)
def test_lines_are_split_as_they_were_written(written: list[bytes]) -> None:
    assert list(split(b"".join(line + b"\n" for line in written))) == written


@pytest.mark.parametrize("data", [b"x", b"x\ny", b"\n\nx"])
def test_half_a_line_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="half a line"):
        split(data)


@given(lines)
def test_each_line_is_proven_under_the_seal(written: list[bytes]) -> None:
    data = b"".join(line + b"\n" for line in written)
    sealed = seal("delay", 12, data, "a", "b")
    hashes = [leaf_hash(line) for line in written]
    assert (sealed.rows, sealed.root) == (len(written), "sha256:" + root(hashes).hex())
    for row, line in enumerate(written):
        path = inclusion_proof(hashes, row)
        assert verify_inclusion(leaf_hash(line), row, sealed.rows, path, bytes.fromhex(sealed.root[7:]))


def test_another_byte_is_another_seal() -> None:
    assert seal("delay", 0, b"x\n", "", "").digest != seal("delay", 0, b"y\n", "", "").digest
    assert seal("delay", 0, b"x\n", "", "").root != seal("delay", 0, b"y\n", "", "").root


small = st.integers(0, 16**12 - 1)


@given(small, small, small)
def test_an_id_is_read_back_by_who_issued_it(segment: int, row: int, ms: int) -> None:
    issued = PredictionId(segment, row, ms)
    text = issued.issue(KEY)
    assert PredictionId.check(text, KEY) == PredictionId.read(text) == issued
    with pytest.raises(InvalidInput, match="this server issued"):
        PredictionId.check(text, b"another key")


@given(small, st.integers(0, 10), st.sampled_from("0123456789abcdef"))
def test_an_id_with_another_digit_was_not_issued(ms: int, at: int, digit: str) -> None:
    text = PredictionId(1, 2, ms).issue(KEY)
    other = text[: at + 1] + digit + text[at + 2 :]
    if other != text:
        with pytest.raises(InvalidInput):
            PredictionId.check(other, KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p",
        "p1-2-3",
        "q1-2-3-0123456789abcdef",
        "p1-2-3-xyz",
        "p+1-2-3-0123456789abcdef",
        "p0x1-2-3-0123456789abcdef",
        None,
        7,
        "p1_0-2-3-0123456789abcdef",
        "p1-2-3-0123456789abcdef\n",
        "p1-2-3-0123456789ABCDEF",
        "p١-2-3-0123456789abcdef",
        "p1-2-3-\ud800",
        "p" + "f" * 100 + "-2-3-0123456789abcdef",
    ],
)
def test_what_is_no_id_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput):
        PredictionId.check(text, KEY)
