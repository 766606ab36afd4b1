"""Two steps: one prediction proven to a stranger, under the root of its segment, and that root under the signed ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from falaj.core.codec import decode
from falaj.core.errors import Conflict
from falaj.core.merkle import inclusion_proof, leaf_hash, root
from falaj.core.note import b64
from falaj.core.ref import Ref
from falaj.core.segment import PredictionId, Seal
from falaj.ports.ledger import Ledger
from falaj.ports.predictions import Predictions

SEALED = "predictions.seal"


def prove_prediction(
    found: PredictionId, log: Predictions, sealed: tuple[int, Seal], proof: Callable[[int], str]
) -> Mapping[str, Any]:
    """What the verifier reads as `prediction`: the line as it was logged, its path, and the text of the seal's proof.

    Raises Conflict where the segment is not what was sealed, NotFound where the log has no such line.
    """
    seq, seal = sealed
    lines = log.lines(found.segment)
    hashes = [leaf_hash(line) for line in lines]
    if len(lines) != seal.rows or f"sha256:{root(hashes).hex()}" != seal.root:
        raise Conflict(f"Segment {seal.segment} of {seal.endpoint} is not what was sealed.", "falaj trace shows where.")
    line = log.line(found.segment, found.row)
    path = [b64(node) for node in inclusion_proof(hashes, found.row)]
    return {"line": b64(line), "row": found.row, "rows": seal.rows, "path": path, "proof": proof(seq)}


def seal_of(ledger: Ledger, endpoint: str, segment: int) -> tuple[int, Seal]:
    """The event that brought the seal of a segment into the ledger, by its number, and the seal.

    Raises Conflict where the segment is not sealed yet.
    """
    key = f"{endpoint}/{segment:06d}"
    for event in ledger.events(verb=SEALED, subject=Ref("endpoint", endpoint)):
        for change in event.changes:
            if (change.kind, change.key) == ("seal", key) and change.body is not None:
                return event.seq, decode(Seal, change.body)
    raise Conflict(
        f"Segment {segment} of endpoint/{endpoint} is not sealed yet.", "try again when the worker has sealed it, once an hour."
    )
