"""Keys and what they open."""

import json
from pathlib import Path

import pytest

from falaj.core.actor import Actor
from falaj.core.errors import Denied, Unauthenticated
from falaj.inference.auth import PERMISSIONS, Keyring, demand, hmac_of

PEPPER = b"p" * 32


def write(path: Path, body: object) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(body))
    draft.replace(path)


def ring(tmp_path: Path) -> tuple[Keyring, Path]:
    path = tmp_path / "keys.json"
    write(path, {hmac_of(PEPPER, b"good"): {"name": "app", "kind": "service", "roles": ["caller"]}})
    return Keyring(path, PEPPER), path


def ask(keyring: Keyring, key: bytes) -> Actor:
    """What the server does for one call."""
    keyring.look()
    return keyring.actor(key)


def test_a_known_key_is_its_actor(tmp_path: Path) -> None:
    keyring, _ = ring(tmp_path)
    assert ask(keyring, b"good") == Actor("app", "service", ("caller",))


def test_a_key_that_is_taken_back_is_refused_on_the_very_next_call(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    ask(keyring, b"good")
    write(path, {})
    with pytest.raises(Unauthenticated):
        ask(keyring, b"good")


def test_a_key_that_is_marked_revoked_is_refused(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    write(path, {hmac_of(PEPPER, b"good"): {"name": "app", "roles": ["caller"], "revoked_at": "2026-01-01T00:00:00.000Z"}})
    with pytest.raises(Unauthenticated):
        ask(keyring, b"good")


def test_calls_that_arrived_together_are_answered_by_one_look(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    keyring.look()
    write(path, {})
    assert keyring.actor(b"good").name == "app"
    keyring.look()
    with pytest.raises(Unauthenticated):
        keyring.actor(b"good")


def test_before_the_first_look_nobody_is_known(tmp_path: Path) -> None:
    keyring, _ = ring(tmp_path)
    with pytest.raises(Unauthenticated):
        keyring.actor(b"good")


def test_a_certificate_is_known_by_its_identity_and_a_key_of_that_text_opens_nothing(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    identity = "spiffe://flights/service/app"
    write(path, {f"certificate:{identity}": {"name": "app", "roles": ["caller"]}})
    keyring.look()
    assert keyring.holder(identity) == Actor("app", "service", ("caller",))
    for key in (identity.encode(), f"certificate:{identity}".encode()):
        with pytest.raises(Unauthenticated):
            keyring.actor(key)
    write(path, {})
    keyring.look()
    with pytest.raises(Unauthenticated, match="No one is known"):
        keyring.holder(identity)


def test_more_good_keys_than_are_remembered_still_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falaj.inference.auth.REMEMBERED", 2)
    keyring, path = ring(tmp_path)
    names = [f"key-{number}" for number in range(5)]
    write(path, {hmac_of(PEPPER, name.encode()): {"name": name, "roles": ["caller"]} for name in names})
    assert [ask(keyring, name.encode()).name for name in names * 2] == names * 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "null", '{"revoked:a": 1}', '{"revoked:a": {"at": "soon"}}'])
def test_keys_that_cannot_be_read_open_nothing(tmp_path: Path, content: str) -> None:
    keyring, path = ring(tmp_path)
    ask(keyring, b"good")
    path.write_text(content)
    with pytest.raises(Unauthenticated):
        ask(keyring, b"good")


def test_a_missing_file_opens_nothing_and_comes_back(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    held = path.read_text()
    path.unlink()
    with pytest.raises(Unauthenticated):
        ask(keyring, b"good")
    path.write_text(held)
    assert ask(keyring, b"good").name == "app"


@pytest.mark.parametrize("key", [b"", b"bad", b"Good", hmac_of(PEPPER, b"good").encode()])
def test_another_key_opens_nothing(tmp_path: Path, key: bytes) -> None:
    keyring, _ = ring(tmp_path)
    with pytest.raises(Unauthenticated):
        ask(keyring, key)


def test_a_role_has_its_permissions_only() -> None:
    caller = Actor("app", "service", ("caller",))
    demand(caller, "predict")
    for permission in ("metrics", "force"):
        with pytest.raises(Denied):
            demand(caller, permission)
    with pytest.raises(Denied):
        demand(Actor("nobody"), "predict")
    assert PERMISSIONS["read"] is None
