from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from falaj.adapters.local.signing import SigningKey, checker, load_public, open_key, open_secret
from falaj.core.errors import Denied, InvalidInput, NotFound


def test_a_key_is_made_once_and_then_the_same(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "model.ed25519"
    key = open_key(path)
    assert open_key(path).public_key == key.public_key == load_public(path.with_name("model.ed25519.pub"))
    assert checker(key.public_key)(open_key(path).sign(b"x"), b"x")


def test_only_the_owner_reads_a_key_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key"
    open_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in path.parent.iterdir()) == ["key", "key.pub"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_use_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    open_key(path)
    path.chmod(mode)
    with pytest.raises(Denied) as caught:
        open_key(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_whoever_comes_second_gets_the_secret_of_the_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda n: open_secret(tmp_path / "pepper", lambda: b"%d" % n), range(32)))
    assert len(secrets) == 1


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    with pytest.raises(InvalidInput):
        open_key(path)
    path.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InvalidInput, match="Ed25519"):
        open_key(path)
    with pytest.raises(InvalidInput):
        load_public(path)
    with pytest.raises(NotFound):
        load_public(tmp_path / "none")
    with pytest.raises(InvalidInput):
        checker(b"short")


def test_a_signature_is_of_one_message_by_one_key() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(b"x")
    assert checker(key.public_key)(signature, b"x")
    assert not checker(key.public_key)(signature, b"y")
    assert not checker(other.public_key)(signature, b"x")
    assert not checker(key.public_key)(b"", b"x")
