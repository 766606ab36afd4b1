"""What can be done about where data is: what leads where, whether it may, a look at reality, and leave to take data elsewhere."""

from __future__ import annotations

from typing import Any

from falaj.core.decision import Decision
from falaj.operations.operation import Argument, Asked, Operation, Subject

TRANSFER = Subject("transfer", "the name of the transfer; falaj transfer list shows them")


def _probe(asked: Asked) -> Decision:
    from falaj.probing import probed

    return asked.app.governance.residency.zones.attest(asked.actor, asked.about, findings=probed(asked.app))


def _registry(asked: Asked) -> Any:
    known = asked.app.governance.residency.law.registry
    return {"zones": list(known.zones.values()), "regions": list(known.regions.values()), "classes": list(known.classes.values())}


def _request(asked: Asked) -> Any:
    given = {name: asked[name] for name in ("basis", "instrument", "classes", "datasets", "conditions")}
    transfers = asked.app.governance.residency.transfers
    return transfers.request(asked.actor, asked.about, zone=asked["to"], given=given, lasts=asked["lasts"])


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "zone",
        "show",
        "Where everything leads that this project stores, computes, tells and shows, and in which zone that is.",
        lambda a: a.app.governance.residency.listing(),
        changes=False,
    ),
    Operation(
        "zone",
        "verify",
        "Whether each of it may be there, by class of data; an unknown zone may not.",
        lambda a: a.app.governance.residency.verify(),
        changes=False,
    ),
    Operation("zone", "known", "Every zone, region and class that falaj knows, each with its status.", _registry, changes=False),
    Operation(
        "zone",
        "probe",
        "Looks whether everything is where it is declared to be, and shuts out what is not.",
        _probe,
        actions=("zone.attest",),
    ),
    Operation(
        "transfer",
        "list",
        "Every leave to take data to another zone that was ever asked for.",
        lambda a: a.app.governance.residency.transfers.listing(a.app.kernel.now()),
        changes=False,
    ),
    Operation(
        "transfer",
        "request",
        "Asks for leave to take data to another zone; two others have to approve it, the data protection officer among them.",
        _request,
        TRANSFER,
        (
            Argument("to", "the zone, such as difc", required=True),
            Argument(
                "basis", "what it rests on: adequacy, clauses, binding-rules, consent, approval or derogation", required=True
            ),
            Argument("instrument", "sha256: and the digest of the signed paper", required=True),
            Argument("classes", "the classes of data, as in personal,confidential", "list", required=True),
            Argument("datasets", "the datasets that it comes from", "list", required=True),
            Argument("conditions", 'as in {"consent": "sha256:…"}: the papers that the classes ask for', "object"),
            Argument("lasts", "how long, such as 90d; a year at most, a derogation 30d", "span"),
        ),
    ),
    Operation(
        "transfer",
        "approve",
        "Says yes to it; whoever asked for it cannot.",
        lambda a: a.app.governance.residency.transfers.approve(a.actor, a.about),
        TRANSFER,
    ),
    Operation(
        "transfer",
        "revoke",
        "Ends it at once.",
        lambda a: a.app.governance.residency.transfers.revoke(a.actor, a.about, reason=a["reason"]),
        TRANSFER,
        (Argument("reason", "why, for the record", required=True),),
    ),
)
