"""Sizes as people write them."""

from __future__ import annotations

import pytest

from falaj.core.errors import InvalidInput
from falaj.core.sizes import size


@pytest.mark.parametrize(
    ("text", "bytes_"), [("512MB", 512_000_000), ("2 gb", 2_000_000_000), ("1.5GB", 1_500_000_000), ("7", 7)]
)
def test_a_size_is_read(text: str, bytes_: int) -> None:
    assert size(text) == bytes_


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "2GiB", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a size"):
        size(text)
