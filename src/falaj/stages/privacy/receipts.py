"""Receipts: what was done with one person's data, signed, with a proof that it stands in the ledger; by token alone.

A receipt is a DSSE envelope around JSON of the form `falaj.receipt/1`. Whoever has the project's public key can check it, and
with the ledger's verifier key also that its event is under a checkpoint (RFC 6962 inclusion proof, C2SP signed note).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from falaj.core.codec import canonical, encode
from falaj.core.decision import Check, Decision, judge
from falaj.core.envelope import open_envelope
from falaj.core.errors import Conflict, FalajError, InvalidInput
from falaj.core.leaf import event_of
from falaj.core.merkle import leaf_hash, verify_inclusion
from falaj.core.note import Verifier, open_checkpoint
from falaj.core.ref import Ref
from falaj.ports.ledger import Proof

PAYLOAD_TYPE = "application/vnd.falaj.receipt+json"
FORM = "falaj.receipt/1"
MOST_BYTES = 4 << 20
Sign = Callable[[bytes, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Notary:
    """`sign(payload, type)` gives a DSSE envelope; `prove(seq)` an inclusion proof of an event."""

    sign: Sign
    prove: Callable[[int], Proof]


def payload_of(erasure: Mapping[str, Any], proof: Proof, at: str) -> dict[str, Any]:
    """What is signed. `steps`, `probes` and `residual` are counts, names of places and dates; nobody's data."""
    shown = ("token", "outcome", "told", "until", "conflicts", "yields", "identity", "by", "found", "models")
    return {
        "form": FORM,
        "request": erasure["id"],
        **{name: erasure.get(name) for name in shown},
        "steps": erasure["steps"],
        "residual": residual(erasure),
        "issued_at": at,
        "event": {
            "index": proof.index,
            "leaf": base64.b64encode(proof.leaf).decode(),
            "path": [base64.b64encode(node).decode() for node in proof.path],
            "checkpoint": proof.checkpoint.note,
        },
    }


def residual(erasure: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is left, why, and until when."""
    if erasure["state"] != "done":
        until = erasure.get("until") or "what keeps it ends"
        return [
            {
                "what": f"{row['store']}: {row['about']}",
                "count": row["count"],
                "why": "; ".join(erasure["conflicts"]),
                "until": until,
            }
            for row in erasure["found"]
        ]
    sealed = [
        {
            "what": f"{row['store']}: {row['about']}",
            "count": row["count"],
            "why": "bytes whose key was destroyed",
            "until": "its own term",
        }
        for row in erasure["found"]
        if row["count"]
    ]
    models = [
        {"what": model, "count": 1, "why": "was trained on a snapshot that held the person's rows", "until": "see its mark"}
        for model in erasure.get("models", ())
    ]
    return [
        *sealed,
        *models,
        {"what": "ledger", "count": 1, "why": "a keyed hash, so that erasure can be proven", "until": "audit_log"},
    ]


def issue(notary: Notary, erasure: Mapping[str, Any], seq: int, at: str) -> bytes:
    """The canonical bytes of the signed receipt."""
    payload = canonical(encode(payload_of(erasure, notary.prove(seq), at)))
    return canonical(encode(notary.sign(payload, PAYLOAD_TYPE)))


def read(data: bytes) -> Mapping[str, Any]:
    """The envelope in the bytes of a file. Raises InvalidInput."""
    try:
        envelope = json.loads(data) if len(data) <= MOST_BYTES else None
    except (ValueError, RecursionError) as exc:
        raise InvalidInput("The receipt is no JSON.", "give the file that `falaj receipt show` wrote.") from exc
    if not isinstance(envelope, dict):
        raise InvalidInput(f"The receipt is no object of at most {MOST_BYTES} bytes.", "give the file as it was handed out.")
    return envelope


def verify(envelope: Mapping[str, Any], signed: Callable[[bytes, bytes], bool], ledger: Verifier) -> Decision:
    """Whether the project's key signed it, the ledger's checkpoint covers its event, and the event says the same.

    `signed(signature, message)` checks with the project's public key. Allow, or deny with the first thing that is wrong.
    """
    ref = Ref("receipt", "given")
    try:
        payload = json.loads(open_envelope(envelope, PAYLOAD_TYPE, signed))
        checks = [Check("signature", "by the project's key", "it is", True), *_event(payload, ledger)]
        ref = Ref("receipt", str(payload["request"]))
    except (FalajError, ValueError, KeyError, TypeError, RecursionError) as exc:
        why = exc.message if isinstance(exc, FalajError) else f"it is not laid out as a receipt ({type(exc).__name__})"
        return Decision(ref, "receipt", "deny", (Check("signature", "by the project's key", why, False),), reason=why)
    verdict = judge(checks)
    return Decision(ref, "receipt", verdict, tuple(checks), reason="proven" if verdict == "allow" else "NOT proven")


def erased_by(envelope: Mapping[str, Any], signed: Callable[[bytes, bytes], bool], ledger: Verifier) -> tuple[int, str]:
    """The number of the event, and the token, of a receipt that proves an erasure. Raises InvalidInput for any other."""
    decision = verify(envelope, signed, ledger)
    if not decision.allowed:
        raise InvalidInput(f"The receipt is not proven: {decision.reason}.", "give it as it was handed out.")
    payload = json.loads(open_envelope(envelope, PAYLOAD_TYPE, signed))
    if payload.get("outcome") != "erase" or payload.get("told") != "erased":
        raise InvalidInput(
            f"The receipt is of a request that ended otherwise: {payload.get('told')}.", "nobody was erased by it."
        )
    return int(payload["event"]["index"]), str(payload["token"])


def _event(payload: Mapping[str, Any], ledger: Verifier) -> list[Check]:
    event = payload["event"]
    leaf, path = _bytes(event["leaf"]), [_bytes(node) for node in event["path"]]
    try:
        statement = open_checkpoint(event["checkpoint"], ledger)
        is_under = verify_inclusion(leaf_hash(leaf), int(event["index"]), statement.size, path, statement.root)
        seen = f"event {event['index']} of {statement.size}" if is_under else "it is not under the checkpoint"
    except (FalajError, ValueError) as exc:
        is_under, seen = False, getattr(exc, "message", str(exc))
    said = event_of(leaf)
    wanted = f"subject/{payload['token']}"
    is_same = str(said.subject) == wanted and said.facts.get("request") == payload["request"]
    return [
        Check("ledger", "its event is under a signed checkpoint", seen, is_under),
        Check("event", "about the same person and request", f"{said.verb} {str(said.subject)[:20]}…", is_same),
    ]


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as exc:
        raise Conflict("A part of the proof is not base64.") from exc
