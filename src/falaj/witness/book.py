"""A witness's folder: its key, the keys of the logs that it trusts, and the newest checkpoint that it cosigned of each."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from falaj.core.cosignature import KIND, add_lines, cosign, cosignatures
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.note import Verifier, read_statement, read_vkey, split_note, vkey
from falaj.witness.rules import Answer, read_request, refuse, unreadable

LOGS = "logs"
_EXAMPLE = """\
# The ledgers that this witness cosigns: the text of each ledger's key, one a line (`falaj audit key` prints it).
# Where a ledger's key was followed by another, both stand here. The file is read again when it changes.
"""


class Book:
    """One witness's state. Only one process may have it open. Raises Conflict where another has."""

    def __init__(self, folder: Path, name: str = "") -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._turn = folder, threading.Lock()
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self._lock.close()
            raise Conflict(f"A witness runs on {folder} already.", "stop it, or name another folder.") from exc
        self._read: tuple[object, dict[str, list[Verifier]]] = (None, {})
        try:
            self._open(name)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, name: str) -> None:
        folder = self._folder
        self._key = _open_key(folder / "witness.ed25519")
        self._public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.name = _open_name(folder / "name", name or f"witness-{hashlib.sha256(self._public).hexdigest()[:8]}")
        self.vkey = vkey(self.name, self._public, KIND)
        self._verifier = Verifier(self.name, self._public, _checker(self._public))
        (folder / "seen").mkdir(mode=0o700, exist_ok=True)
        if not (folder / LOGS).exists():
            _write(folder / LOGS, _EXAMPLE.encode())
        self.logs()

    def logs(self) -> dict[str, list[Verifier]]:
        """Origin → the keys that are trusted for it. Raises InvalidInput for a line that is no key."""
        path = self._folder / LOGS
        stat = path.stat()
        if self._read[0] != (stat.st_mtime_ns, stat.st_size, stat.st_ino):
            found: dict[str, list[Verifier]] = {}
            for line in path.read_text("utf-8").splitlines():
                if line.strip() and not line.startswith("#"):
                    name, public_key = read_vkey(line.strip())
                    found.setdefault(name, []).append(Verifier(name, public_key, _checker(public_key)))
            self._read = ((stat.st_mtime_ns, stat.st_size, stat.st_ino), found)
        return self._read[1]

    def trust(self, vkeys: Sequence[str]) -> None:
        """Adds keys of ledgers to the file, those that it has already left out. Raises InvalidInput for what is no key."""
        lines = (self._folder / LOGS).read_text("utf-8")
        for text in vkeys:
            read_vkey(text)
        fresh = [text for text in vkeys if text not in lines.splitlines()]
        if fresh:
            _write(self._folder / LOGS, (lines + "".join(f"{text}\n" for text in fresh)).encode())

    def add_checkpoint(self, body: bytes, now: Callable[[], float]) -> Answer:
        """The answer to a request. What is cosigned is on the disk before the cosignature leaves, one request at a time."""
        try:
            request = read_request(body)
            with self._turn:
                found = self.seen(request.statement.origin)
                seen = read_statement(split_note(found)[0]) if found else None
                refusal = refuse(request, self.logs(), seen)
                if refusal is not None:
                    return refusal
                line = cosign(request.text, self.name, self._public, self._key.sign, at=int(now()))
                _write(self._place(request.statement.origin), add_lines(request.note, [line]).encode())
                return Answer(200, line)
        except InvalidInput as exc:
            return unreadable(exc)

    def seen(self, origin: str) -> str | None:
        """The newest checkpoint of a log that was cosigned here, with the cosignature; None where none ever was.

        Raises Conflict for a file that does not hold that: who has forgotten what it saw would cosign another history.
        """
        path = self._place(origin)
        if not path.exists():
            return None
        try:
            found = path.read_text("utf-8")
            is_own = bool(cosignatures(found, [self._verifier])) and read_statement(split_note(found)[0]).origin == origin
        except (InvalidInput, UnicodeDecodeError):
            is_own = False
        if not is_own:
            raise Conflict(f"{path} does not hold what this witness cosigned of {origin}.", "restore it from a backup.")
        return found

    def close(self) -> None:
        self._lock.close()

    def _place(self, origin: str) -> Path:
        return self._folder / "seen" / hashlib.sha256(origin.encode()).hexdigest()


@contextmanager
def open_book(folder: Path, name: str = "") -> Iterator[Book]:
    book = Book(folder, name)
    try:
        yield book
    finally:
        book.close()


def _open_key(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        _write(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if path.stat().st_mode & 0o077:
        raise InvalidInput(f"Others than its owner may use the secret {path}.", f"chmod 600 {path}")
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(f"{path} does not hold an Ed25519 key.")
    return key


def _open_name(path: Path, wanted: str) -> str:
    """The name that was given first: another one would be another witness."""
    if not path.exists():
        vkey(wanted, bytes(32), KIND)  # refuses what cannot name a key
        _write(path, wanted.encode())
    return path.read_text("utf-8")


def _checker(public_key: bytes) -> Callable[[bytes, bytes], bool]:
    key = Ed25519PublicKey.from_public_bytes(public_key)

    def check(signature: bytes, message: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return check


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing, on the disk when this returns, for its owner only."""
    draft = path.with_name(path.name + ".draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
