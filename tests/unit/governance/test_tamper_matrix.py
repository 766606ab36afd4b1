"""Seven attacks by somebody who may write the ledger's file: what its own verification sees, and what only others can."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.kits.tampering import ATTACKS, Seen, attack, table

LOCAL = Seen(local=True, remembered=True, asked=True, refused=True)
ONLY_FROM_OUTSIDE = Seen(local=False, remembered=True, asked=True, refused=True)
EXPECTED = {
    "an event is edited": LOCAL,
    "an event is edited, with its hash": LOCAL,
    "an event in the middle is deleted": LOCAL,
    "the tail is cut off, with its checkpoints": ONLY_FROM_OUTSIDE,
    "everything is written anew by the key's holder": ONLY_FROM_OUTSIDE,
    "two events change places": LOCAL,
    "an old copy of the whole file is put back": ONLY_FROM_OUTSIDE,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_seen_by_whom_it_should_be(name: str, tmp_path: Path) -> None:
    assert attack(tmp_path, name) == EXPECTED[name]


def test_with_a_witness_seven_of_seven_are_seen() -> None:
    assert set(EXPECTED) == set(ATTACKS)
    assert [seen.witness for seen in EXPECTED.values()] == [True] * 7
    assert sum(seen.local for seen in EXPECTED.values()) == 4


def test_the_guide_shows_this_table() -> None:
    assert table(EXPECTED) in (ROOT / "docs" / "guides" / "audit.md").read_text("utf-8")
