"""Ed25519 keys in files, and what they sign: checkpoints of the ledger and envelopes around models."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from falaj.core import envelope as envelopes
from falaj.core.cosignature import KIND
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.core.note import Verifier, read_vkey

_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
_PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class SigningKey:
    """A private key that signs and never shows itself."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes(*_RAW)
        self.id = key_id(self.public_key)

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def save(self, path: Path) -> None:
        """Writes it and its public half durably into new files, as `open_key` reads them. Raises Conflict where one is there."""
        with border(path):
            write_once(path, _pem(self._private))
        if open_key(path).public_key != self.public_key:
            raise Conflict(f"{path} holds another key already.")


def open_key(path: Path) -> SigningKey:
    """The key in the file, made on first use, with its public half beside it in `<file>.pub`.

    Raises Denied where others may read the file, InvalidInput where it holds no Ed25519 key.
    """
    pem = open_secret(path, _new_private)
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as exc:
        raise InvalidInput(f"{path} does not hold a private key: {exc}.") from exc
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidInput(f"{path} does not hold an Ed25519 key.")
    key = SigningKey(private)
    public = path.with_name(path.name + ".pub")
    if not public.exists():
        with border(public):
            write_once(public, private.public_key().public_bytes(*_PEM))
    return key


def load_public(path: Path) -> bytes:
    """The raw public key in a `.pub` file. Raises NotFound or InvalidInput."""
    with border(path):
        pem = path.read_bytes()
    try:
        public = serialization.load_pem_public_key(pem)
    except ValueError as exc:
        raise InvalidInput(f"{path} does not hold a public key: {exc}.") from exc
    if not isinstance(public, Ed25519PublicKey):
        raise InvalidInput(f"{path} does not hold an Ed25519 key.")
    return public.public_bytes(*_RAW)


def key_id(public_key: bytes) -> str:
    """The name of a key in an envelope: a digest of the raw public key."""
    return "sha256:" + hashlib.sha256(public_key).hexdigest()


def checker(public_key: bytes) -> Callable[[bytes, bytes], bool]:
    """`check(signature, message)`, for the parts of falaj that know no cryptography. Raises InvalidInput for what is no key."""
    try:
        public = Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError as exc:
        raise InvalidInput(f"The public key cannot be used: {exc}.") from exc

    def check(signature: bytes, message: bytes) -> bool:
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return check


def verifier(vkey: str) -> Verifier:
    """What checks the notes of the key that this text names (`<name>+<hash>+<base64>`)."""
    name, public_key = read_vkey(vkey)
    return Verifier(name, public_key, checker(public_key), verifier)


def witness_verifier(vkey: str) -> Verifier:
    """What checks the cosignatures of the witness that this text names."""
    name, public_key = read_vkey(vkey, KIND)
    return Verifier(name, public_key, checker(public_key))


def sign_envelope(payload: bytes, payload_type: str, key: SigningKey) -> dict[str, Any]:
    """The payload in a signed DSSE envelope."""
    return envelopes.write_envelope(payload, payload_type, key.id, key.sign)


def open_envelope(envelope: Mapping[str, Any], public_key: bytes, payload_type: str) -> bytes:
    """The payload, if that key signed it. Raises Denied, Conflict or InvalidInput as `falaj.core.envelope.open_envelope`."""
    return envelopes.open_envelope(envelope, payload_type, checker(public_key))


def open_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The bytes of a secret file that only its owner reads; `make` gives them where there is no file yet.

    Two processes that start at once get the same secret: whoever comes second reads what the first has written.
    """
    with border(path):
        if not path.exists():
            write_once(path, make())
        mode = path.stat().st_mode
        data = path.read_bytes()
    if mode & 0o077:
        raise Denied(f"Others than its owner may use the secret {path}.", f"chmod 600 {path}")
    return data


def write_once(path: Path, data: bytes) -> None:
    """Writes a file that only its owner reads, whole and durably, unless there is one already."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A link fails where the name is taken; a rename would replace the other process's key.
    with _drafted(path, data) as draft, suppress(FileExistsError):
        os.link(draft, path)
    sync_folder(path.parent)


def write_over(path: Path, data: bytes) -> None:
    """Writes a file that only its owner reads, in the place of whatever was there: whole or not at all, and durably.

    Raises OSError.
    """
    with _drafted(path, data) as draft:
        draft.replace(path)
    sync_folder(path.parent)


@contextmanager
def _drafted(path: Path, data: bytes) -> Iterator[Path]:
    """A durable file beside `path` that only its owner reads; it is gone afterwards, unless it got another name."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, as fsync makes the bytes of a file durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _new_private() -> bytes:
    return _pem(Ed25519PrivateKey.generate())


def _pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@contextmanager
def border(path: Path) -> Iterator[None]:
    """Words of the operating system become falaj's own."""
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {path}.") from exc
    except (PermissionError, NotADirectoryError, IsADirectoryError) as exc:
        raise InvalidInput(f"{path} cannot be used: {exc.strerror}.", "check who owns it and its folder.") from exc
    except OSError as exc:
        raise Unavailable(f"{path} did not answer: {exc.strerror}.", "check the disk's space and state.") from exc
