"""Makes the archive of one version: its events with their proofs, papers that quote them, and what a stranger checks it with."""

from __future__ import annotations

import contextlib
import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from falaj.core.codec import decode, digest
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from falaj.core.event import Event
from falaj.core.leaf import event_of
from falaj.core.moments import iso
from falaj.core.note import Verifier
from falaj.core.ref import Ref
from falaj.core.succession import Succession
from falaj.core.tlog_proof import ProofText, write_proof
from falaj.ports.blobs import Blobs
from falaj.ports.evidence import Evident, StoredEvent
from falaj.ports.ledger import Checkpoint
from falaj.stages.action import Act, Kernel, action
from falaj.stages.gates.report import markdown as gate_report
from falaj.stages.governance.evidence.archive import Sign, b64, packed, pretty, sealed
from falaj.stages.governance.evidence.card import card, markdown, page
from falaj.stages.governance.evidence.gather import Gathered, gather
from falaj.stages.governance.evidence.legal import legal_of
from falaj.stages.governance.evidence.mlbom import mlbom
from falaj.stages.governance.evidence.papers import papers
from falaj.stages.governance.inventory import inventory, read
from falaj.stages.governance.proofs import Tree
from falaj.stages.governance.witnessing import Witnesses, cosigned, witnessed
from falaj.stages.registry.demands import BUILT_IN, Demands

FORMAT = "falaj-evidence/1"
README = """Evidence of {model}, from the ledger {origin} as of {size} events.

python -I verify.py --vkey KEY     checks all of it; it needs Python 3.10 or newer and the package `cryptography`.

KEY is the ledger's first key. Get it from somebody you trust, not from this archive.
index.html is for reading, model/mlbom.cdx.json is a CycloneDX bill of materials, audit/ holds the events with their proofs.
What is missing or not known is said to be.
"""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a stranger checks with. `verifier` and `vkey`: the ledger's first key; `rotations()`: the proofs of those that
    followed it. `model`: the raw public key that signs models and archives."""

    verifier: Verifier
    vkey: str
    model: bytes
    rotations: Callable[[], Sequence[str]] = tuple
    witnesses: Witnesses = field(default_factory=Witnesses)


@dataclass(frozen=True, slots=True)
class Made:
    """`path`: where the archive lies, on the machine that made it."""

    model: str
    path: str
    digest: str
    bytes: int
    files: int
    events: int
    size: int
    """Of the ledger that it was made from."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """`programs`: the verifiers by their name in the archive. `check(bom)`: False where nobody can look at the schema of a bill
    of materials; raises InvalidInput for one that breaks it."""

    kernel: Kernel
    blobs: Blobs
    folder: Path
    sign: Sign
    keys: Keys
    programs: Mapping[str, str]
    check: Callable[[Mapping[str, Any]], bool]
    demands: Demands = BUILT_IN

    @action("evidence.make")
    def make(self, act: Act, subject: Ref) -> Made:
        """Writes the archive of a version into the folder of exports and keeps its digest. The ledger is signed first, so that
        all of it can be proven.

        Raises NotFound for a version that does not exist, InvalidInput for a ledger that shows no evidence.
        """
        self.kernel.ledger.checkpoint()
        files, size, events = self.files(subject)
        data = packed(files)
        path = self.folder / f"evidence-{subject.name}-{subject.version}-{size}.zip"
        _write(path, data)
        made = Made(str(subject), str(path), digest(data), len(data), len(files), events, size)
        with act.change() as draft:
            draft.note(archive=made.digest, bytes=made.bytes, events=events, size=size)
        return made

    def files(self, model: Ref) -> tuple[dict[str, bytes], int, int]:
        """Every file of the archive, the size of the ledger that it is made from, and the number of events. The same ledger gives
        the same bytes.

        As of the newest checkpoint that the witnesses cosigned, where nothing was done about the version since; else of the
        newest.
        """
        stored, under = self._stored(model)
        events = [event_of(one.leaf) for one in stored]
        found = gather(events, model)
        signed = Succession.of(self.keys.verifier, self.kernel.ledger).open(under.note)
        about = {"origin": signed.origin, "size": signed.size}
        files = self._papers(found, events, about)
        files |= _audit(found, stored, under.note)
        files |= {name: text.encode() for name, text in self.programs.items()}
        files["README.txt"] = README.format(model=model, **about).encode()
        witnesses = [witness.vkey for _, witness in self.keys.witnesses.asked]
        files["keys.json"] = pretty({"ledger": self.keys.vkey, "model": b64(self.keys.model), "witnesses": witnesses})
        if rotations := self.keys.rotations():
            files["audit/rotations"] = "".join(rotations).encode()
        schema = "CycloneDX 1.6" if self.check(json.loads(files["model/mlbom.cdx.json"])) else "not checked"
        told = {"format": FORMAT, "model": str(model), "ledger": about, "as_of": iso(events[-1].at), "bom_schema": schema}
        return sealed(files, told, self.sign), signed.size, len(found.events)

    def _stored(self, model: Ref) -> tuple[list[StoredEvent], Checkpoint]:
        """The events that are under the checkpoint, and it with its cosignatures."""
        ledger = self.kernel.ledger
        if not isinstance(ledger, Evident):
            raise InvalidInput("This ledger does not show its evidence.", "use an adapter that does: sqlite or memory.")
        newest = (ledger.checkpoints() or [ledger.checkpoint()])[-1]
        with ledger.evidence() as evidence:
            stored = list(evidence.events())[: newest.size]
        if len(stored) < newest.size:
            raise Conflict(f"{newest.size} events were signed, {len(stored)} are there.", "falaj audit verify")
        seen = witnessed(ledger, self.keys.witnesses)
        if seen is not None and max(gather([event_of(one.leaf) for one in stored], model).held) < seen.size:
            return stored[: seen.size], seen
        return stored, cosigned(ledger, newest)

    def _papers(self, found: Gathered, events: Sequence[Event], about: Mapping[str, Any]) -> dict[str, bytes]:
        """As of the last event: no clock, so that the same ledger gives the same papers."""
        row = next(row for row in inventory(read(events, events[-1].at, self.demands)) if row["model"] == str(found.model))
        shown = card(found, row)
        bom = mlbom(found, shown, str(about["origin"]))
        files = {name: pretty(body) for name, body in papers(found, row).items()}
        files |= {
            "model/model-card.json": pretty(shown),
            "model/model-card.md": markdown(shown).encode(),
            "model/mlbom.cdx.json": pretty(bom),
            "model/model.dsse.json": pretty(found.record["manifest"]),
            "model/manifest.json": b64decode(found.record["manifest"]["payload"]),
            "index.html": page(shown, about).encode(),
        }
        return files | self._reports(found)

    def _reports(self, found: Gathered) -> dict[str, bytes]:
        """The gate's report, and the contracts behind the data, whose digests stand in the proven records."""
        files = {}
        gate = found.get("decision", f"{found.record.get('candidate')}|gate")
        if gate is not None:
            files["tests/gate.md"] = gate_report(decode(Decision, gate)).encode()
        for snapshot in found.snapshots:
            name = str(((found.get("asset", snapshot) or {}).get("labels") or {}).get("contract") or "")
            if name.startswith("sha256:"):
                try:
                    files[f"data/contracts/{name.removeprefix('sha256:')}.odcs.yaml"] = self.blobs.get(name)
                except NotFound:  # removed by retention: its digest is still in the record
                    continue
        return files | self._receipts(found)

    def _receipts(self, found: Gathered) -> dict[str, bytes]:
        """The signed receipts of erasures that touched it; their digests stand in the proven records."""
        files = {}
        for request in legal_of(found.state, (found.model, found.snapshots))["erasure"]:
            for kept in (found.get("erasure", request) or {})["receipts"]:
                name = str(kept["digest"])
                with contextlib.suppress(NotFound):
                    files[f"legal/receipts/{name.removeprefix('sha256:')}.json"] = self.blobs.get(name)
        return files


def _audit(found: Gathered, stored: Sequence[StoredEvent], note: str) -> dict[str, bytes]:
    """One proof file an event, the leaf inside; and all leaves in one file, for reading."""
    tree = Tree(one.leaf_hash for one in stored)
    files = {"audit/checkpoint": note.encode()}
    for event in found.events:
        leaf = stored[event.seq].leaf
        text = write_proof(ProofText(event.seq, tuple(tree.path(event.seq)), note, leaf))
        files[f"audit/{event.seq:08d}.tlog-proof"] = text.encode()
    files["audit/events.jsonl"] = b"".join(stored[event.seq].leaf + b"\n" for event in found.events)
    return files


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, for the owner only. Raises Unavailable where that cannot be."""
    draft = path.with_name(f".{path.name}.{digest(data)[7:19]}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.touch(mode=0o600)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as exc:
        raise Unavailable(
            f"{path} cannot be written: {exc.strerror}.", "look at the folder's owner and the disk's space."
        ) from exc
