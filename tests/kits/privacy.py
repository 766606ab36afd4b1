"""A small house with a vault, records and people, for what is done for the people in the data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.local.signing import SigningKey, checker, sign_envelope, verifier
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.adapters.memory.vault import MemoryVault
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.ports.subjects import Finding, SubjectStore
from falaj.ports.vault import Vault
from falaj.stages.action import Kernel
from falaj.stages.privacy import clocks, terms
from falaj.stages.privacy.affected import Affected
from falaj.stages.privacy.consent import Consent
from falaj.stages.privacy.holds import Holds
from falaj.stages.privacy.receipts import Notary, erased_by
from falaj.stages.privacy.replay import Replay
from falaj.stages.privacy.requests import Requests
from falaj.stages.privacy.stores import ConsentStore, ExportStore
from falaj.stages.privacy.subjects import Means, Subjects
from falaj.stages.privacy.waivers import Waivers

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SETUP = Actor("setup", "system", ("operator",))
WORKER = Actor("worker", "service", ("service",))
DPO = Actor("noura", "person", ("dpo",))
OTHER_DPO = Actor("hessa", "person", ("dpo",))
APPROVER = Actor("amal", "person", ("approver",))
OPERATOR = Actor("saif", "person", ("operator",))
ROBOT = Actor("robot", "service", ("dpo", "approver"))


class Register:
    """A file of visits, one a line: `id` in clear in an index, `note` sealed with the person's key, `copy` in clear beside it."""

    name = "register"

    def __init__(self, folder: Path, vault: Vault) -> None:
        self.folder = folder
        self.vault = vault
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, person: str, note: str, place: str = "dataset/visits@1") -> None:
        token = self.vault.token(person)
        [sealed] = self.vault.seal([token], [note.encode()], b"register")
        rows = [*self._rows(), {"token": token, "place": place, "sealed": sealed.hex()}]
        self._write("rows", rows)
        self._write("copies", [*self._copies(), {"id": person, "place": place, "note": note}])

    def find(self, subject: str) -> list[Finding]:
        token = self.vault.token(subject)
        found = [
            Finding(self.name, row["place"], 1, self._note(row) is not None) for row in self._rows() if row["token"] == token
        ]
        return [
            *found,
            *(Finding(self.name, f"copy of {row['place']}", 1, True) for row in self._copies() if row["id"] == subject),
        ]

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        token = self.vault.token(subject)
        for row in self._rows():
            if row["token"] == token and (note := self._note(row)) is not None:
                yield {"store": self.name, "place": row["place"], "note": note}

    def erase(self, subject: str) -> list[Finding]:
        gone = [row for row in self._copies() if row["id"] == subject]
        self._write("copies", [row for row in self._copies() if row["id"] != subject])
        return [Finding(self.name, f"copy of {row['place']}", 1, False) for row in gone]

    def probe(self, subject: str) -> list[Finding]:
        return [found for found in self.find(subject) if found.readable]

    def _note(self, row: Mapping[str, Any]) -> str | None:
        [plain] = self.vault.open([row["token"]], [bytes.fromhex(row["sealed"])], b"register")
        return None if plain is None else plain.decode()

    def _rows(self) -> list[dict[str, Any]]:
        return self._read("rows")

    def _copies(self) -> list[dict[str, Any]]:
        return self._read("copies")

    def _read(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _write(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        draft = self.folder / f".{name}"
        draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
        draft.replace(self.folder / f"{name}.jsonl")


@dataclass
class House:
    folder: Path
    ledger: Any = field(default_factory=MemoryLedger)
    blobs: Any = field(default_factory=MemoryBlobs)
    vault: Any = field(default_factory=MemoryVault)
    key: SigningKey = field(default_factory=SigningKey.generate)
    approvals: int = 1
    now: datetime = START

    def __post_init__(self) -> None:
        self.kernel = Kernel(self.ledger, RolePolicy(), lambda: self.now)
        self.terms = terms.shipped()
        self.register = Register(self.folder / "register", self.vault)
        self.exports = ExportStore(self.ledger, self.blobs, self.vault)
        self.holds = Holds(self.kernel)
        self.waivers = Waivers(self.kernel, self.terms)
        self.consent = Consent(self.kernel)
        self.requests = Requests(self.kernel, clocks.shipped())
        self.affected = Affected(self.kernel)
        self.replay = Replay(self.kernel, self.vault, self._proven)
        self.subjects = self.opened()

    def _proven(self, receipt: Mapping[str, Any]) -> tuple[int, str]:
        return erased_by(receipt, checker(self.key.public_key), verifier(self.ledger.vkey))

    def opened(self, stores: Sequence[SubjectStore] = ()) -> Subjects:
        found = (*stores, self.register, self.exports, ConsentStore(self.ledger, self.vault))
        notary = Notary(lambda payload, kind: sign_envelope(payload, kind, self.key), self.ledger.prove)
        means = Means(self.vault, self.blobs, lambda: found, notary)
        return Subjects(self.kernel, means, self.affected, terms=self.terms, approvals_needed=self.approvals)

    def put(self, kind: str, key: str, body: Mapping[str, Any]) -> None:
        """A record as another stage would leave it."""
        from falaj.core.codec import encode

        with self.ledger.transaction() as tx:
            tx.append(Event("test.put", Ref("test", "record"), SETUP, self.now, {}, (Change(kind, key, encode(body)),)))

    def snapshot(self, ref: str, data: bytes = b"", **labels: Any) -> Asset:
        digest = self.blobs.put(data or ref.encode())
        asset = Asset(Ref.parse(ref), digest, digest, labels={"rows": 3, **labels}, created_at=self.now)
        self.put("asset", ref, _plain(asset))
        return asset

    def model(self, ref: str, *inputs: str, candidate: str = "") -> Asset:
        parsed = Ref.parse(ref)
        own = Ref.parse(candidate or f"candidate/{parsed.name}@run-{parsed.version}")
        digests = {name: self.blobs.put(f"{name} of {ref}".encode()) for name in ("holdout", "reference")}
        digest = self.blobs.put(f"weights of {ref}".encode())
        asset = Asset(own, digest, digest, labels=digests, inputs=tuple(map(Ref.parse, inputs)), created_at=self.now)
        self.put("asset", str(own), _plain(asset))
        body = {"ref": ref, "asset": _plain(asset), "candidate": str(own), "created_at": self.now, "gate": "allow"}
        self.put("model", f"{parsed.name}@{parsed.version}", body)
        return asset

    def erase(self, person: str, request: str = "r1", actor: Actor = DPO) -> Any:
        subject = self.subjects.subject(person)
        decision = self.subjects.erase(actor, subject, person=person, request=request, identity="ticket/1")
        return self.subjects.carry_out(actor, request) if self.ledger.get("erasure", request) else decision

    def events(self, verb: str = "") -> list[Event]:
        return list(self.ledger.events(verb=verb))

    def everything(self) -> bytes:
        return b"\n".join(self.ledger.leaves())


def _plain(asset: Asset) -> Mapping[str, Any]:
    from falaj.core.codec import encode

    body: Mapping[str, Any] = encode(asset)
    return body
