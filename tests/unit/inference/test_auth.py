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


def test_a_known_key_is_its_actor(tmp_path: Path) -> None:
    keyring, _ = ring(tmp_path)
    assert keyring.actor(b"good") == Actor("app", "service", ("caller",))


def test_a_key_that_is_taken_back_is_refused_on_the_very_next_call(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    keyring.actor(b"good")
    write(path, {})
    with pytest.raises(Unauthenticated):
        keyring.actor(b"good")


def test_a_key_that_is_marked_revoked_is_refused(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    write(path, {hmac_of(PEPPER, b"good"): {"name": "app", "roles": ["caller"], "revoked_at": "2026-01-01T00:00:00.000Z"}})
    with pytest.raises(Unauthenticated):
        keyring.actor(b"good")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "null"])
def test_keys_that_cannot_be_read_open_nothing(tmp_path: Path, content: str) -> None:
    keyring, path = ring(tmp_path)
    keyring.actor(b"good")
    path.write_text(content)
    with pytest.raises(Unauthenticated):
        keyring.actor(b"good")


def test_a_missing_file_opens_nothing_and_comes_back(tmp_path: Path) -> None:
    keyring, path = ring(tmp_path)
    held = path.read_text()
    path.unlink()
    with pytest.raises(Unauthenticated):
        keyring.actor(b"good")
    path.write_text(held)
    assert keyring.actor(b"good").name == "app"


@pytest.mark.parametrize("key", [b"", b"bad", b"Good", hmac_of(PEPPER, b"good").encode()])
def test_another_key_opens_nothing(tmp_path: Path, key: bytes) -> None:
    keyring, _ = ring(tmp_path)
    with pytest.raises(Unauthenticated):
        keyring.actor(key)


def test_a_role_has_its_permissions_only() -> None:
    caller = Actor("app", "service", ("caller",))
    demand(caller, "predict")
    for permission in ("metrics", "force"):
        with pytest.raises(Denied):
            demand(caller, permission)
    with pytest.raises(Denied):
        demand(Actor("nobody"), "predict")
    assert PERMISSIONS["read"] is None
