"""The vault in one SQLite file: a key for each person, wrapped by a key that lies in a file of its own."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from falaj.adapters.local.signing import open_secret, sync_folder
from falaj.adapters.local.sqlite import write_ahead
from falaj.adapters.sealing.cipher import NONCE, Key, head, raw, seal, token_key, token_of, unseal
from falaj.core.errors import Bug, Conflict, Denied, FalajError, InvalidInput, Unavailable

APPLICATION = 0x6661766C  # "favl"
VERSION = 1
T = TypeVar("T")
CACHED = 20_000
"""Keys held unwrapped at once, about half a kilobyte each."""
_ROWS = 10_000
"""Sealed or opened between two looks at the store, so that a call of any length holds few keys."""
_ASKED = 500
"""Tokens a query; SQLite takes no more than 999 everywhere."""
_WRAPPED = NONCE + 32 + 16

SCHEMA = (
    # No row is ever deleted and no key ever moves: a page that is rebuilt would keep a copy where nothing overwrites it. A
    # destroyed key is overwritten in place by as many zeros. The index on the tokens holds no keys.
    """CREATE TABLE IF NOT EXISTS keys(
        id INTEGER PRIMARY KEY, token BLOB NOT NULL UNIQUE, erased INTEGER NOT NULL, epoch INTEGER NOT NULL,
        wrapped BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS keys_erased ON keys(token) WHERE erased = 1",
    "CREATE TABLE IF NOT EXISTS about(id INTEGER PRIMARY KEY CHECK(id = 0), generation INTEGER NOT NULL, live INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO about VALUES(0, 0, 0)",
)
_MEND = "restore it from its own backup, and shred again whoever was erased since."
_WORDS: dict[int, tuple[type[FalajError], str, str]] = {
    sqlite3.SQLITE_CORRUPT: (Conflict, "is damaged", _MEND),
    sqlite3.SQLITE_NOTADB: (InvalidInput, "is no vault", "name the file subjects.db of a project's state folder."),
    sqlite3.SQLITE_ERROR: (Conflict, "is not laid out as a vault", _MEND),
    sqlite3.SQLITE_READONLY: (InvalidInput, "may not be written", "check who owns the file and its folder."),
    sqlite3.SQLITE_CANTOPEN: (InvalidInput, "cannot be opened", "check that its folder exists and may be written."),
    sqlite3.SQLITE_FULL: (Unavailable, "cannot grow: the disk is full", "free some space and try again."),
    sqlite3.SQLITE_BUSY: (Unavailable, "is held by another process", "try again; if it lasts, look for a process that hangs."),
}


class SqliteVault:
    """capabilities: `durable`, `shared`. Safe for many threads and processes; a process opens it anew after a fork.

    Whoever has the file alone has no key: each is wrapped (AES-256-GCM, its token as additional data) by the one in `key_path`.
    """

    capabilities: frozenset[str] = frozenset({"durable", "shared"})

    def __init__(self, path: Path, key_path: Path, pepper: bytes, busy_seconds: float = 30.0) -> None:
        """Makes both files where both are missing. Raises Denied where others may read the key, InvalidInput or Conflict
        where the file is no vault or its key is gone, Unavailable where the disk does not answer."""
        self.path = Path(path)
        self._token_key = token_key(pepper)
        is_lost = self.path.is_file() and self.path.stat().st_size > 0 and not Path(key_path).exists()
        if not is_lost:
            self._wrapping = AESGCM(open_secret(Path(key_path), lambda: os.urandom(32)))
        self._held: dict[str, Key] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._seen = (-1, -1)
        """SQLite's own count of what others changed, and the generation that was read then."""
        self._erased: frozenset[str] | None = None
        with self._border():
            self._db = self._opened(busy_seconds)
        if is_lost:  # what a new key wrapped would be lost when the old one is brought back
            self._db.close()
            raise Conflict(f"The vault {self.path} has lost its key {key_path}.", "restore the key from its own backup.")

    def token(self, subject: str) -> str:
        return token_of(self._token_key, subject)

    def seal(self, tokens: Sequence[str], plain: Sequence[bytes], about: bytes) -> list[bytes]:
        sealed: list[bytes] = []
        for rows in _parts(list(zip(tokens, plain, strict=True)), _ROWS):
            keys = self._keys(dict.fromkeys(token for token, _ in rows), make=True)
            chance = os.urandom(NONCE * len(rows))
            for place, (token, text) in enumerate(rows):
                sealed.append(seal(keys[token], chance[place * NONCE : (place + 1) * NONCE], text, about))
        return sealed

    def open(self, tokens: Sequence[str], sealed: Sequence[bytes], about: bytes) -> list[bytes | None]:
        found: list[bytes | None] = []
        for rows in _parts(list(zip(tokens, sealed, strict=True)), _ROWS):
            keys = self._keys(dict.fromkeys(token for token, _ in rows), make=False)
            for token, data in rows:
                key = keys.get(token)
                found.append(None if key is None else unseal(key, data, about))
        return found

    def shred(self, tokens: Iterable[str]) -> int:
        wanted = [raw(token) for token in dict.fromkeys(tokens)]
        gone = 0
        with self._lock, self._border():
            with self._transaction() as db:
                for token in wanted:
                    row = db.execute("SELECT erased FROM keys WHERE token = ?", (token,)).fetchone()
                    # A key of an admitted subject that sealed nothing yet has no row of its own: zeros stand there already.
                    if row is None:
                        db.execute("INSERT INTO keys VALUES(NULL, ?, 1, 0, zeroblob(?))", (token, _WRAPPED))
                    elif row[0] != 1:
                        db.execute("UPDATE keys SET erased = 1, wrapped = zeroblob(?) WHERE token = ?", (_WRAPPED, token))
                        gone += row[0] == 0
                db.execute("UPDATE about SET generation = generation + 1, live = live - ?", (gone,))
            self._forget()
            self._truncate()
        return gone

    def admit(self, token: str) -> None:
        with self._lock, self._border():
            with self._transaction() as db:
                # 2: neither erased nor with a key; the next seal makes one, of the next epoch.
                db.execute("UPDATE keys SET erased = 2, epoch = epoch + 1 WHERE token = ? AND erased = 1", (raw(token),))
                db.execute("UPDATE about SET generation = generation + 1")
            self._forget()

    def erased(self) -> frozenset[str]:
        with self._lock, self._border():
            self._look()
            if self._erased is None:
                rows = self._db.execute("SELECT token FROM keys WHERE erased = 1").fetchall()
                self._erased = frozenset(token.hex() for (token,) in rows)
            return self._erased

    def generation(self) -> int:
        with self._lock, self._border():
            return self._look()

    def count(self) -> int:
        with self._lock, self._border():
            return int(self._db.execute("SELECT live FROM about").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._forget()
            if os.getpid() == self._pid:
                self._db.close()

    def _keys(self, tokens: Iterable[str], *, make: bool) -> dict[str, Key]:
        """The unwrapped keys of those that have one; with `make` everybody gets one."""
        with self._lock, self._border():
            self._look()
            held = self._held
            found = {token: held[token] for token in tokens if token in held}
            missing = [token for token in tokens if token not in found]
            if missing:
                found |= self._read(missing)
            without = [token for token in missing if token not in found]
            if without and make:
                self._make(without)
                found |= self._read(without)
            for token in missing:
                if token in found:
                    held[token] = found[token]
            while len(held) > CACHED:
                del held[next(iter(held))]
        return found

    def _read(self, tokens: list[str]) -> dict[str, Key]:
        found: dict[str, Key] = {}
        for part in _parts(tokens, _ASKED):
            marks = ",".join("?" * len(part))
            asked = f"SELECT token, epoch, wrapped FROM keys WHERE erased = 0 AND token IN ({marks})"  # noqa: S608  # marks alone
            for token, epoch, wrapped in self._db.execute(asked, [raw(token) for token in part]):
                try:
                    key = self._wrapping.decrypt(wrapped[:NONCE], wrapped[NONCE:], token)
                except InvalidTag as exc:
                    raise Conflict(
                        f"A key in {self.path} was not wrapped by this project's key, or was changed.",
                        "restore keys/vault.kek and the vault from one backup.",
                    ) from exc
                found[token.hex()] = (AESGCM(key), head(epoch))
        return found

    def _make(self, tokens: list[str]) -> None:
        with self._transaction() as db:
            made = 0
            for token in tokens:
                own = raw(token)
                row = db.execute("SELECT erased FROM keys WHERE token = ?", (own,)).fetchone()
                if row is not None and row[0] == 1:
                    raise Denied("A person whose data was erased may not be taken in again by itself.", "admit them first.")
                if row is not None and row[0] == 0:  # another process was faster
                    continue
                nonce = os.urandom(NONCE)
                wrapped = nonce + self._wrapping.encrypt(nonce, os.urandom(32), own)
                if row is None:
                    db.execute("INSERT INTO keys VALUES(NULL, ?, 0, 0, ?)", (own, wrapped))
                else:
                    db.execute("UPDATE keys SET erased = 0, wrapped = ? WHERE token = ?", (wrapped, own))
                made += 1
            db.execute("UPDATE about SET live = live + ?", (made,))

    def _look(self) -> int:
        """Forgets every key as soon as anybody destroyed one. Costs one read of a page that is in memory."""
        if os.getpid() != self._pid:
            raise Bug("A vault was carried over a fork, which SQLite does not survive.", "open it again in the child process.")
        version = int(self._db.execute("PRAGMA data_version").fetchone()[0])
        if version != self._seen[0]:
            generation = int(self._db.execute("SELECT generation FROM about").fetchone()[0])
            if generation != self._seen[1]:
                self._forget()
            self._seen = (version, generation)
        return self._seen[1]

    def _forget(self) -> None:
        self._held.clear()
        self._erased = None
        self._seen = (-1, -1)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _truncate(self) -> None:
        """The log of writes still holds the page as it was before; empty, it holds nothing."""
        busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise Unavailable(
                f"The keys are destroyed, but {self.path}-wal could not be emptied: another process reads it.", "shred again."
            )

    def _opened(self, busy_seconds: float) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(self.path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
        try:
            # The tables first: another process that makes them right now commits its mark with them.
            tables, application = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("schema_version", "application_id"))
            if tables and application != APPLICATION:
                raise InvalidInput(f"{self.path} is a database of another program.", "name another file.")
            write_ahead(db, busy_seconds)
            for pragma in ("synchronous = FULL", "fullfsync = ON", "secure_delete = ON", "trusted_schema = OFF"):
                db.execute(f"PRAGMA {pragma}")
            if not tables:
                db.execute("BEGIN IMMEDIATE")
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
                db.execute("COMMIT")
                sync_folder(self.path.parent)
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def _border(self) -> Iterator[None]:
        """SQLite's words and the operating system's become falaj's own."""
        try:
            yield
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", None)
            kind, what, hint = _WORDS.get((code or 0) & 0xFF, (Unavailable, "did not answer", "try again."))
            raise kind(f"The vault {self.path} {what}: {exc}.", hint) from exc
        except OSError as exc:
            raise InvalidInput(f"The vault {self.path} cannot be opened: {exc.strerror}.", "check who owns its folder.") from exc


def _parts(rows: list[T], most: int) -> Iterator[list[T]]:
    for start in range(0, len(rows), most):
        yield rows[start : start + most]
