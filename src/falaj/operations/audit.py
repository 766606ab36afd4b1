"""What can be done about the audit trail: check it, prove from it, show it to witnesses, lay it out for others."""

from __future__ import annotations

import base64
from collections import deque
from typing import Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.note import vkey
from falaj.core.ref import Ref
from falaj.operations.operation import Argument, Asked, Operation, Subject

PREDICTION = Subject("prediction", "the id that came with the prediction")
SEQ = Subject("event", "the number of an event, counted from 0")
LEDGER = Ref("ledger", "local")


def _verify(asked: Asked) -> Any:
    return asked.app.audit.verify(remembered=asked["remembered"], ask=asked["witnesses"])


def _prove(asked: Asked) -> Any:
    """The text of a proof file; or its parts, base64 for bytes as in C2SP's own texts."""
    if not (asked.about.name.isascii() and asked.about.name.isdigit()):
        raise InvalidInput(f"{asked.about.name!r} is no event's number.", "falaj audit history <reference> shows them.")
    seq = int(asked.about.name)
    if asked["form"] == "tlog-proof":
        return asked.app.audit.proof(seq)
    proof = asked.app.audit.prove(seq)
    return {
        "index": proof.index,
        "leaf": proof.leaf.decode(),
        "path": [base64.b64encode(node).decode() for node in proof.path],
        "checkpoint": proof.checkpoint.note,
    }


def _history(asked: Asked) -> Any:
    """The newest last, and at most `limit` of them."""
    app, of = asked.app, asked["of"]
    found = app.audit.history(Ref.parse(of)) if of else app.ledger.events()
    newest = deque(found, maxlen=max(asked["limit"], 0))
    return [
        {"seq": e.seq, "at": e.at, "actor": str(e.actor), "verb": e.verb, "subject": e.subject, "facts": e.facts} for e in newest
    ]


def _checkpoint(asked: Asked) -> Any:
    made = asked.app.audit.checkpoint(asked.actor, LEDGER)
    return {"size": made.size, "origin": made.origin, "note": made.note}


def _key(asked: Asked) -> Any:
    """The first key is what others are given; the later ones follow from it."""
    verifier = asked.app.verifier
    witnesses = [witness.vkey for _, witness in asked.app.governance.witnesses.asked]
    return {"vkey": vkey(verifier.name, verifier.public_key), "witnesses": witnesses}


def _prove_prediction(asked: Asked) -> Any:
    """JSON as the verifier reads it; where only one endpoint is declared, it need not be named."""
    from falaj.core.segment import PredictionId
    from falaj.stages.governance.two_steps import prove_prediction, seal_of

    app, found = asked.app, PredictionId.read(asked.about.name)
    names = [name for name, _ in app.ledger.find("endpoint")]
    name = str(asked["endpoint"] or (names[0] if len(names) == 1 else "")).removeprefix("endpoint/")
    if name not in names:
        raise NotFound.named("endpoint", name, names)
    return prove_prediction(found, app.predictions_of(name), seal_of(app.ledger, name, found.segment), app.audit.proof)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "audit",
        "verify",
        "Whether the ledger is whole, question by question.",
        _verify,
        arguments=(
            Argument("remembered", "the text of a checkpoint that was kept elsewhere"),
            Argument("witnesses", "ask the witnesses what they have seen, too", "flag", False),
        ),
        changes=False,
    ),
    Operation(
        "audit",
        "prove",
        "A proof file that an event is in the ledger, for a stranger.",
        _prove,
        SEQ,
        (Argument("form", "the file's text, or its parts", default="tlog-proof", one_of=("tlog-proof", "parts")),),
        changes=False,
    ),
    Operation(
        "prediction",
        "prove",
        "A proof of one prediction for a stranger: its line, and the seal over it.",
        _prove_prediction,
        PREDICTION,
        (Argument("endpoint", "which endpoint made it, where there are several"),),
        changes=False,
        asks="audit.read",
    ),
    Operation(
        "audit",
        "rotations",
        "Proof files that lead from the ledger's first key to its later ones.",
        lambda a: "".join(a.app.audit.rotations()),
        changes=False,
    ),
    Operation("audit", "key", "The ledger's key, to be given to auditors and witnesses.", _key, changes=False),
    Operation(
        "audit",
        "history",
        "What was ever done, to one thing or to all.",
        _history,
        arguments=(
            Argument("of", "a reference, as in model/delay@7; without it, everything"),
            Argument("limit", "how many events, counted from the newest", "integer", 100),
        ),
        changes=False,
    ),
    Operation(
        "audit",
        "watch",
        "The next events, checked; what it returns goes into the next watch.",
        lambda a: a.app.audit.watch(after=a["after"], root=a["root"], limit=a["limit"]),
        arguments=(
            Argument("after", "the number of the last event that was seen", "integer", -1),
            Argument("root", "the root that the watch before returned", default=""),
            Argument("limit", "how many events at most, up to 1000", "integer", 100),
        ),
        changes=False,
    ),
    Operation(
        "audit",
        "checkpoint",
        "Signs the ledger as it is; keep the text somewhere else.",
        _checkpoint,
    ),
    Operation(
        "audit",
        "witness",
        "Shows the newest checkpoint to the witnesses and keeps what they sign.",
        lambda a: a.app.audit.witness(a.actor, LEDGER),
    ),
    Operation(
        "audit",
        "export",
        "Adds what is new to the bundle in the state folder, for others to check.",
        lambda a: a.app.audit.export(a.actor, LEDGER),
    ),
    Operation(
        "audit",
        "rotate",
        "Hands the signing over to a new key; the old one never signs again.",
        lambda a: a.app.audit.rotate(a.actor, LEDGER),
    ),
)
