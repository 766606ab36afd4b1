"""What this part itself keeps about people: copies that were made for them, and what they consented to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from falaj.core.errors import FalajError
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger
from falaj.ports.subjects import Finding
from falaj.ports.vault import Vault


def about(export: str) -> bytes:
    """What a sealed copy is bound to."""
    return f"export|{export}".encode()


class ExportStore:
    """Copies lie in the blobs, sealed with the person's own key: erasing the person takes them along."""

    name = "exports"

    def __init__(self, ledger: Ledger, blobs: Blobs, vault: Vault) -> None:
        self.ledger = ledger
        self.blobs = blobs
        self.vault = vault

    def find(self, subject: str) -> list[Finding]:
        return [Finding(self.name, body["ref"], body["records"], self._open(body) is not None) for body in self._of(subject)]

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        """That a copy was made, and when: a copy of the copy would tell nothing more."""
        for body in self._of(subject):
            yield {"store": self.name, "place": body["ref"], "made_at": body["at"], "records": body["records"]}

    def erase(self, subject: str) -> list[Finding]:
        """The sealed bytes as well: nobody needs what nobody can read."""
        gone = [body for body in self._of(subject) if self.blobs.delete(body["digest"])]
        return [Finding(self.name, body["ref"], body["records"], readable=False) for body in gone]

    def probe(self, subject: str) -> list[Finding]:
        return [found for found in self.find(subject) if found.readable]

    def read(self, export: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
        """The records of a copy; None where the person was erased since, or retention removed it."""
        data = self._open(export)
        return None if data is None else [json.loads(line) for line in data.splitlines()]

    def _open(self, body: Mapping[str, Any]) -> bytes | None:
        if not self.blobs.has(body["digest"]):
            return None
        sealed = self.blobs.get(body["digest"])
        try:
            return self.vault.open([body["token"]], [sealed], about(Ref.parse(body["ref"]).name))[0]
        except FalajError:
            return None

    def _of(self, subject: str) -> Iterator[Mapping[str, Any]]:
        token = self.vault.token(subject)
        for key, body in self.ledger.find("export"):
            if body["token"] == token and self.ledger.get("expired", f"export/{key}") is None:
                yield body


class ConsentStore:
    """What a person consented to stays as proof, by a keyed hash alone: to whom it belongs is not to be read from it."""

    name = "consents"

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self.ledger = ledger
        self.vault = vault

    def find(self, subject: str) -> list[Finding]:
        return [Finding(self.name, f"purpose {body['purpose']}", 1, readable=False) for body in self._of(subject)]

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        for body in self._of(subject):
            shown = {name: body[name] for name in ("purpose", "version", "state", "at")}
            yield {"store": self.name, "place": f"purpose {body['purpose']}", **shown}

    def erase(self, subject: str) -> list[Finding]:
        return []

    def probe(self, subject: str) -> list[Finding]:
        return []

    def _of(self, subject: str) -> list[Mapping[str, Any]]:
        return [body for _, body in self.ledger.find("consent", prefix=f"{self.vault.token(subject)}|")]
