"""Names: which records name which blobs, so that no blob goes that something kept still needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from falaj.core.errors import Conflict, NotFound
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HOLDING = ("asset", "decision", "erasure", "export", "model", "monitor", "recipe", "report")
"""Kinds of records that name blobs. A blob that a record of these kinds names is not deleted with another thing."""
BLOBLESS = frozenset(
    {
        "access", "affected", "alert", "alias", "approval", "certificate", "consent", "cursor", "declared", "description",
        "dpia", "drill", "elevation", "endpoint", "erased", "experiment", "expired", "head", "hold", "key", "kill",
        "milestone", "objection", "release", "request", "restricted", "revoked", "rollout", "run", "seal", "standing",
        "test", "tier", "transfer", "view", "waiver", "window", "zone",
    }
)  # fmt: skip
"""Kinds of records that name none that retention deletes. A test compares both lists with what the code writes."""


class Names:
    """digest → what names it. Read once for a round; `among` looks at what was written since as well."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self.ledger = ledger
        self.blobs = blobs
        signed = ledger.checkpoints()
        self._seq = signed[-1].size - 1 if signed else -1
        """Events up to here are in the records that are read below; later ones may be, and are read again."""
        self._owners: dict[str, set[str]] = {}
        for kind in HOLDING:
            for key, body in ledger.find(kind):
                self._add(key, body)

    def among(self, digests: Iterable[str], about: str) -> set[str]:
        """Those of the digests that something else which was not removed names too."""
        for event in self.ledger.events(after=self._seq):
            self._seq = event.seq
            for change in event.changes:
                if change.kind in HOLDING and change.body is not None:
                    self._add(change.key, change.body)
        gone = {key for key, _ in self.ledger.find("expired")} | {about}
        return {digest for digest in digests if self._owners.get(digest, set()) - gone}

    def _add(self, key: str, body: Mapping[str, Any]) -> None:
        owner = str(body.get("ref") or body.get("subject") or key)
        for digest in (*DIGEST.findall(json.dumps(body)), *self._parts(body)):
            self._owners.setdefault(digest, set()).add(owner)

    def _parts(self, body: Mapping[str, Any]) -> list[str]:
        """Of a snapshot in parts the record names a list alone, and two snapshots that begin with the same rows share parts."""
        if "parts" not in (body.get("labels") or {}):
            return []
        try:
            return [str(part["digest"]) for part in json.loads(self.blobs.get(str(body["digest"])))["parts"]]
        except (NotFound, Conflict, ValueError, KeyError, TypeError):  # it was removed, or nobody can read it any more
            return []
