from __future__ import annotations

import pytest

from falaj.adapters.local.signing import SigningKey, checker
from falaj.core.cosignature import KIND, add_lines, cosign, cosignatures, quorum_of
from falaj.core.errors import InvalidInput
from falaj.core.note import Statement, Verifier, read_vkey, vkey, write_note

# A checkpoint of a public log with the cosignatures of public witnesses, as it was once served.
REAL = (
    "arche2025h1.staging.ct.transparency.dev\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n"
    "— arche2025h1.staging.ct.transparency.dev "
    "ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "— transparency.dev/DEV:witness-little-garden "
    "2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n"
    "— witness1.smartit.nu/witness1 "
    "pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n"
    "— remora.n621.de "
    "2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n"
    "— witness.stagemole.eu "
    "Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n"
)
LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
WITNESSES = (
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
)
TEXT = str(Statement("example.com/log", 7, bytes(range(32))))


def witness(text: str) -> Verifier:
    name, public_key = read_vkey(text, KIND)
    return Verifier(name, public_key, checker(public_key))


def made(name: str, key: SigningKey) -> Verifier:
    return witness(vkey(name, key.public_key, KIND))


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def note(key: SigningKey) -> str:
    return write_note(TEXT, "example.com/log", key.public_key, key.sign)


def test_cosignatures_of_public_witnesses_stand() -> None:
    found = cosignatures(REAL, [witness(text) for text in WITNESSES])
    assert [one.witness for one in found] == [text.partition("+")[0] for text in WITNESSES]
    assert {one.at for one in found} == {0x6A122120}


@pytest.mark.parametrize(("old", "new"), [("1432088532", "1432088533"), ("ucgKi7lI", "ucgKi7lJ"), ("AABqEiEgw0", "AABqEiEhw0")])
def test_a_changed_cosignature_counts_for_nobody(old: str, new: str) -> None:
    assert "witness.stagemole.eu" not in [one.witness for one in cosignatures(REAL.replace(old, new), [witness(WITNESSES[3])])]


def test_the_key_of_a_log_is_no_key_of_a_witness() -> None:
    with pytest.raises(InvalidInput):
        read_vkey(LOG, KIND)
    with pytest.raises(InvalidInput):
        read_vkey(WITNESSES[0])
    assert vkey(*read_vkey(WITNESSES[2], KIND), KIND) == WITNESSES[2]


def test_what_was_cosigned_is_found_again_with_its_time(note: str, key: SigningKey) -> None:
    line = cosign(TEXT, "w.example", key.public_key, key.sign, at=1679315147)
    both = add_lines(note, [line, line])
    assert both == note + line
    assert add_lines(both, [line]) == both
    (found,) = cosignatures(both, [made("w.example", key)])
    assert (found.witness, found.at, found.line) == ("w.example", 1679315147, line)
    assert cosignatures(both, [made("other.example", key)]) == []
    assert cosignatures(note, [made("w.example", key)]) == []


def test_one_key_under_two_names_counts_once(note: str, key: SigningKey) -> None:
    lines = [cosign(TEXT, name, key.public_key, key.sign, at=1) for name in ("a.example", "b.example")]
    found = cosignatures(add_lines(note, lines), [made("a.example", key), made("b.example", key)])
    assert [one.witness for one in found] == ["a.example"]


def test_only_a_checkpoint_is_cosigned(key: SigningKey) -> None:
    with pytest.raises(InvalidInput):
        cosign("no checkpoint\n", "w.example", key.public_key, key.sign, at=1)


def test_a_quorum_is_all_unless_it_says_how_many() -> None:
    assert [quorum_of(wanted, 3) for wanted in (0, 1, 3)] == [3, 1, 3]
    for wanted in (-1, 4):
        with pytest.raises(InvalidInput):
            quorum_of(wanted, 3)
