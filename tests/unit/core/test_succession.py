from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.adapters.local.signing import SigningKey, checker, verifier
from falaj.core.errors import Denied, InvalidInput
from falaj.core.note import Statement, Verifier, vkey, write_note
from falaj.core.succession import Succession, rotations, turn
from falaj.testing.ledger import event

ORIGIN = "falaj/local"
KEYS = [SigningKey.generate() for _ in range(3)]
TEXTS = [vkey(ORIGIN, key.public_key) for key in KEYS]


def note(size: int, key: int) -> str:
    said = str(Statement(ORIGIN, size, bytes(32)))
    return write_note(said, ORIGIN, KEYS[key].public_key, KEYS[key].sign)


def keys() -> Succession:
    """Rotations at events 10 and 20; checkpoints of 5, 11, 15, 21 and 30 events."""
    return Succession(verifier(TEXTS[0]), [(10, TEXTS[1]), (20, TEXTS[2])], [5, 11, 15, 21, 30])


@pytest.mark.parametrize(("size", "key"), [(5, 0), (11, 0), (15, 1), (21, 1), (30, 2), (40, 2)])
def test_the_old_key_covers_the_rotation_and_the_new_one_all_that_follows(size: int, key: int) -> None:
    assert keys().open(note(size, key)).size == size
    for other in {0, 1, 2} - {key}:
        with pytest.raises(Denied):
            keys().open(note(size, other))


def test_two_rotations_under_one_checkpoint_hand_over_to_the_last() -> None:
    both = Succession(verifier(TEXTS[0]), [(10, TEXTS[1]), (11, TEXTS[2])], [5, 12, 15])
    assert both.open(note(12, 0)).size == 12
    assert both.open(note(15, 2)).size == 15
    with pytest.raises(Denied):
        both.open(note(15, 1))


def test_a_rotation_that_names_no_key_lets_nobody_sign() -> None:
    broken = Succession(verifier(TEXTS[0]), [(10, "nonsense")], [11])
    assert broken.open(note(11, 0)).size == 11
    with pytest.raises(InvalidInput):
        broken.open(note(12, 0))


def test_a_rotation_to_the_key_of_another_log_lets_nobody_sign() -> None:
    other = vkey("other.example/log", KEYS[1].public_key)
    moved = Succession(verifier(TEXTS[0]), [(10, other)], [5, 12])
    said = str(Statement("other.example/log", 15, bytes(32)))
    with pytest.raises(Denied, match="another log"):
        moved.open(write_note(said, "other.example/log", KEYS[1].public_key, KEYS[1].sign))


def test_who_can_only_check_one_key_says_so() -> None:
    alone = Verifier(ORIGIN, KEYS[0].public_key, checker(KEYS[0].public_key))
    with pytest.raises(Denied, match="followed by another"):
        Succession(alone, [(10, TEXTS[1])], [11]).open(note(12, 1))


def test_rotations_are_read_from_the_events() -> None:
    from dataclasses import replace

    events = [replace(event("audit.rotate", "ledger/local", vkey="k"), seq=4), event("a.b", "model/delay", vkey="x")]
    assert rotations(events) == [(4, "k")]


@given(st.lists(st.integers(0, 50), unique=True).map(sorted), st.integers(0, 60))
def test_whose_turn_it_is_is_said_by_what_is_covered(seqs: list[int], covered: int) -> None:
    named = [(seq, str(seq)) for seq in seqs]
    before = [seq for seq in seqs if seq < covered]
    assert turn(named, covered) == (str(before[-1]) if before else None)
