"""The pages that list things are the code's own lists."""

from __future__ import annotations

import pytest

from tests.architecture.tree import ROOT
from tools.reference import PAGES


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    path = ROOT / "docs" / "reference" / name
    assert path.is_file(), "make reference"
    assert path.read_text("utf-8") == PAGES[name](), "make reference"


def test_no_reference_page_is_left_over() -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").glob("*.md")} == set(PAGES)
