"""What can be done for one person in the data. The person is given in the body of a POST, or on a command's standard input."""

from __future__ import annotations

import json
from typing import Any

from falaj.core.errors import NotFound
from falaj.core.ref import Ref
from falaj.operations.models import VERSION
from falaj.operations.operation import Argument, Asked, Operation, Subject
from falaj.operations.retention import REASON, privacy
from falaj.stages.privacy.requests import KINDS, REGIMES

PERSON = Argument("person", "the person, as the data has them", required=True, hidden=True)
PURPOSE = Argument("purpose", "what the data is used for, as in marketing", required=True)
REQUEST = Subject("request", "a name for it, as in dsr-2026-17; falaj request list shows them")
EXPORT = Subject("export", "the name of a copy; falaj export list shows them")
ERASES = ("subject.erase", "request.open", "request.close", "subject.advance", "model.mark", "receipt.issue")


def _about(asked: Asked) -> Ref:
    return privacy(asked).subjects.subject(asked["person"])


def _find(asked: Asked) -> Any:
    found = privacy(asked).subjects.find(asked.actor, _about(asked), person=asked["person"])
    return {"subject": _about(asked).name, "found": found}


def _export(asked: Asked) -> Any:
    return privacy(asked).subjects.export(asked.actor, _about(asked), person=asked["person"])


def _erase(asked: Asked) -> Any:
    """The person may be restricted from now on, until what keeps the data ends, or no more: endpoints have to know either way."""
    try:
        return _erased(asked)
    finally:
        privacy(asked).tell_endpoints()


def _erased(asked: Asked) -> Any:
    """One request a person and day, unless it is named: the same command again takes up what was cut short."""
    own, subject = privacy(asked), _about(asked)
    name = asked["request"] or f"erase-{subject.name[:12]}-{asked.app.kernel.now():%Y%m%d}"
    if asked.app.ledger.get("request", name) is None:
        own.requests.open(asked.actor, Ref("request", name), token=subject.name, kind="erasure", regimes=asked["regimes"])
    decision = own.subjects.erase(asked.actor, subject, person=asked["person"], request=name, identity=asked["identity"])
    if asked.app.ledger.get("erasure", name) is None:
        return decision
    decision = own.subjects.carry_out(asked.actor, name)
    if decision.allowed and own.requests.get(name)["state"] == "open":
        own.requests.close(asked.actor, Ref("request", name), outcome=decision.reason)
    return decision


def _receipt(asked: Asked) -> Any:
    app = asked.app
    receipts = privacy(asked).subjects.get(asked.about.name)["receipts"]
    if not receipts:
        raise NotFound(f"There is no receipt of {asked.about} yet.", "falaj worker tick")
    return json.loads(app.blobs.get(receipts[-1]["digest"]))


def _copy(asked: Asked) -> Any:
    body = asked.app.ledger.get("export", asked.about.name)
    records = privacy(asked).exports.read(body) if body else None
    if records is None:
        raise NotFound(f"There is no {asked.about} that can be read.", "falaj export list")
    return records


def _copies(asked: Asked) -> Any:
    ledger = asked.app.ledger
    return [
        {name: body[name] for name in ("ref", "records", "at", "by")} | {"gone": ledger.get("expired", body["ref"]) is not None}
        for _, body in ledger.find("export")
    ]


def _check(asked: Asked) -> Any:
    return privacy(asked).consent.may_use(
        _about(asked).name, asked["purpose"], needs_consent=asked["basis"] == "consent", version=asked["version"] or ""
    )


def _consent(asked: Asked) -> Any:
    subject, given = _about(asked), {name: asked[name] for name in ("purpose", "version", "evidence")}
    privacy(asked).consent.consent(asked.actor, subject, **given)
    return {"subject": subject.name, **given, "endpoints": privacy(asked).tell_endpoints()}


def _said(asked: Asked, verb: str, **given: Any) -> Any:
    subject = _about(asked)
    getattr(privacy(asked).consent, verb)(asked.actor, subject, **given)
    told = {} if verb == "mark" else {"endpoints": privacy(asked).tell_endpoints()}
    return {"subject": subject.name, "done": f"subject.{verb}", **given, **told}


def _admit(asked: Asked) -> Any:
    privacy(asked).replay.admit(asked.actor, _about(asked), reason=asked["reason"])
    return {"subject": _about(asked).name, "done": "subject.admit"}


def _open(asked: Asked) -> Any:
    given = {name: asked[name] for name in ("kind", "regimes", "received")}
    return privacy(asked).requests.open(asked.actor, asked.about, token=_about(asked).name, **given)


def _quarantine(asked: Asked) -> Any:
    from falaj.upkeep import WORKER

    privacy(asked).affected.quarantine(asked.actor, asked.about, reason=asked["reason"])
    # The platform does what follows, whoever asked: to say that a version is withheld takes another right than to run endpoints.
    return {"model": asked.about, "state": "quarantined", "stopped": asked.app.governance.recall(WORKER)}


def _justify(asked: Asked) -> Any:
    given = {name: asked[name] or "" for name in ("reason", "exception", "dpia", "policy")}
    return privacy(asked).affected.justify(asked.actor, asked.about, **given)


OPERATIONS: tuple[Operation, ...] = (
    Operation("subject", "find", "Where there is anything about a person, with counts.", _find, arguments=(PERSON,)),
    Operation(
        "subject", "export", "Everything readable about a person; a sealed copy is kept for 30 days.", _export,
        arguments=(PERSON,),
    ),
    Operation(
        "subject",
        "erase",
        "Erases a person in every store, or restricts the data until what keeps it ends. The same again goes on.",
        _erase,
        arguments=(
            PERSON,
            Argument("identity", "the name of the check that told who asks, as in ticket/1234", required=True),
            Argument("request", "the request that it answers; without it, one of its own is opened"),
            Argument("regimes", f"which laws apply, of {', '.join(REGIMES)}", "list", ()),
        ),
        actions=ERASES,
        plan=lambda a: privacy(a).subjects.plan(a["person"]).shown(),
    ),
    Operation("subject", "admit", "Takes an erased person in again, under a new key.", _admit, arguments=(PERSON, REASON)),
    Operation(
        "subject", "restrict", "The person's data stays and is not used.",
        lambda a: _said(a, "restrict", reason=a["reason"]), arguments=(PERSON, REASON),
    ),
    Operation(
        "subject", "unrestrict", "The person's data may be used again.",
        lambda a: _said(a, "unrestrict", reason=a["reason"]), arguments=(PERSON, REASON),
    ),
    Operation(
        "subject",
        "consent",
        "The person consented to a purpose.",
        _consent,
        arguments=(
            PERSON,
            PURPOSE,
            Argument("version", "of the wording that was shown, as in 2026-11", required=True),
            Argument("evidence", "where the proof of it is kept", default=""),
        ),
    ),
    Operation(
        "subject", "withdraw", "The person does not consent to a purpose any more.",
        lambda a: _said(a, "withdraw", purpose=a["purpose"]), arguments=(PERSON, PURPOSE),
    ),
    Operation(
        "subject",
        "mark",
        "Something happened to the person from when on a period runs.",
        lambda a: _said(a, "mark", event=a["event"], at=a["at"]),
        arguments=(
            PERSON,
            Argument("event", "relationship_end, last_procedure or life_of_processing", required=True),
            Argument("at", "when", "time", required=True),
        ),
    ),
    Operation(
        "subject",
        "check",
        "Whether the person's data may be used for a purpose now.",
        _check,
        arguments=(
            PERSON,
            PURPOSE,
            Argument("version", "of the wording that consent has to be to"),
            Argument("basis", "the lawful basis", default="consent", one_of=("consent", "other")),
        ),
        actions=(),
    ),
    Operation(
        "subject",
        "replay",
        "Erases people who were erased once more, after a restore.",
        lambda a: privacy(a).replay.replay(a.actor, Ref("subject", "all"), tokens=a["tokens"], receipt=a["receipt"]),
        arguments=(
            Argument("tokens", "of people whose erasure the ledger has, 64 hexadecimal digits each", "list", ()),
            Argument("receipt", "of an erasure that the ledger does not have, as falaj receipt show gave it", "object"),
        ),
    ),
    Operation(
        "request",
        "list",
        "Who asked for what about their data, by token, and until when they are to be answered.",
        lambda a: privacy(a).requests.listing(only_open=a["open"]),
        arguments=(Argument("open", "only those that are not answered", "flag", False),),
        changes=False,
    ),
    Operation(
        "request",
        "open",
        "Takes a request down; its clocks run from when it was received.",
        _open,
        REQUEST,
        (
            PERSON,
            Argument("kind", "what is asked for", default="access", one_of=KINDS),
            Argument("regimes", f"which laws apply, of {', '.join(REGIMES)}", "list", ()),
            Argument("received", "when it came (default: now)", "time"),
        ),
    ),
    Operation(
        "request", "extend", "Claims the longer time, where a law has one.",
        lambda a: privacy(a).requests.extend(a.actor, a.about, reason=a["reason"]), REQUEST, (REASON,),
    ),
    Operation(
        "request", "approve", "Says yes to an erasure, where two people are wanted.",
        lambda a: privacy(a).requests.approve(a.actor, a.about, reason=a["reason"]), REQUEST, (REASON,),
    ),
    Operation(
        "request", "close", "The person was answered.",
        lambda a: privacy(a).requests.close(a.actor, a.about, outcome=a["outcome"]), REQUEST,
        (Argument("outcome", "how it ended, in a few words", required=True),),
    ),
    Operation(
        "privacy",
        "record",
        "The record of processing, made from the ledger: what data, for what, how long, which models, which endpoints.",
        lambda a: privacy(a).record(),
        changes=False,
    ),
    Operation("export", "list", "Every copy that was made for a person.", _copies, changes=False),
    Operation("export", "show", "The records of one copy.", _copy, EXPORT, changes=False),
    Operation("receipt", "show", "The signed receipt of an erasure, for the person.", _receipt, REQUEST, changes=False),
    Operation(
        "receipt",
        "verify",
        "Whether a receipt was signed here, and its event is in the ledger.",
        lambda a: privacy(a).verify(a["receipt"]),
        arguments=(Argument("receipt", "the receipt, as falaj receipt show gives it", "object", required=True),),
        actions=(),
        asks="receipt.read",
    ),
    Operation(
        "model", "quarantine", "A version answers nobody until somebody justifies it; its endpoints go back, or out of use.",
        _quarantine, VERSION, (REASON,),
    ),
    Operation(
        "model",
        "justify",
        "The version may go on although it learned from erased people; whoever says so answers for it.",
        _justify,
        VERSION,
        (
            REASON,
            Argument("exception", "the law's own for training data: adgm-31-4-c or difc-22-4-c"),
            Argument("dpia", "the digest of the impact assessment, for an exception"),
            Argument("policy", "the id of the deletion policy, for an exception"),
        ),
    ),
)  # fmt: skip
