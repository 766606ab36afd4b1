"""The keys of one ledger, as files: the first under its own name, each later one with its key hash in the name.

A key whose turn is over is set aside, `<file>.retired`; its public half stays, so that what it signed can be checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from falaj.adapters.local.signing import SigningKey, load_public, open_key, sync_folder
from falaj.core.errors import Conflict
from falaj.core.note import vkey


class LedgerKeys:
    """`path`: the first key's file. What a rotation names is said by the ledger, never by the files."""

    def __init__(self, path: Path, origin: str) -> None:
        self._path, self._origin = path, origin
        self._signing: tuple[str, SigningKey] | None = None

    def exist(self) -> bool:
        """Whether there is a first key, in use or set aside."""
        return self._path.exists() or _aside(self._path).exists()

    def first(self) -> str:
        """The text of the first key, which is made where there is none. Raises as `open_key`."""
        if _aside(self._path).exists():
            return vkey(self._origin, load_public(self._path.with_name(self._path.name + ".pub")))
        return vkey(self._origin, open_key(self._path).public_key)

    def make(self) -> str:
        """A new key, durably in its file, not yet in use: its text, for the event that hands over to it."""
        made = SigningKey.generate()
        text = vkey(self._origin, made.public_key)
        made.save(self._file(text))
        return text

    def signer(self, rotations: Sequence[tuple[int, str]]) -> SigningKey:
        """The key whose turn it is after these rotations; those before it are set aside.

        Raises Conflict where its file is gone.
        """
        turns = [self.first(), *(text for _seq, text in rotations)]
        if self._signing is None or self._signing[0] != turns[-1]:
            path = self._path if len(turns) == 1 else self._file(turns[-1])
            if len(turns) > 1 and not path.exists():
                raise Conflict(f"The ledger has lost its key {path}.", "restore the key from a backup.")
            key = open_key(path)
            if vkey(self._origin, key.public_key) != turns[-1]:
                raise Conflict(f"{path} holds another key than the ledger's.", "restore the key from a backup.")
            self._signing = (turns[-1], key)
            for place, text in enumerate(turns[:-1]):
                self._retire(self._file(text) if place else self._path)
        return self._signing[1]

    def _retire(self, path: Path) -> None:
        if path.exists():
            path.rename(_aside(path))
            _aside(path).chmod(0o400)
            sync_folder(path.parent)

    def _file(self, text: str) -> Path:
        hashed = text.removeprefix(self._origin + "+").partition("+")[0]
        if len(hashed) != 8 or not set(hashed) <= set("0123456789abcdef"):
            raise Conflict(f"The ledger's events name a key that is none: {text[:80]!r}.", "`falaj audit verify` shows where.")
        return self._path.with_name(f"{self._path.stem}-{hashed}{self._path.suffix}")


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".retired")
