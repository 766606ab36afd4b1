"""What can be done for whoever has to show how models are governed: the inventory, what is said of models, and their history."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import InvalidInput
from falaj.operations.operation import Argument, Asked, Operation, Subject

MODEL = Subject("model", "a model, as in delay")
VERSION = Subject("model", "a registered version, as in delay@7", "needed")
RISKS, OVERSIGHT = ("low", "medium", "high"), ("in_the_loop", "on_the_loop", "out_of_the_loop")
TESTS = ("bias", "validation", "robustness", "membership")


def _inventory(asked: Asked) -> Any:
    from falaj.stages.governance.inventory import inventory, read, short

    app = asked.app
    rows = inventory(read(app.ledger.events(), app.kernel.now(), app.governance.policing.demands))
    name = str(asked["name"] or "").removeprefix("model/")
    kept = [row for row in rows if not name or row["model"].rpartition("@")[0] == f"model/{name}"]
    kept = [row for row in kept if not asked["overdue"] or row["overdue"]]
    return kept if asked["details"] else [short(row) for row in kept]


def _history(asked: Asked) -> Any:
    from falaj.stages.governance.asof import history

    found = history(asked.app.ledger.events(), asked.about.name)
    if not found:
        asked.app.registry.resolve(asked.about.name + "@1")
    return found


def _describe(asked: Asked) -> Any:
    from falaj.stages.registry.dossier import Description

    said = Description(
        asked["purpose"], asked["risk"], asked["owner"], asked["oversight"], _pairs(asked["responsible"]),
        asked["basis"], tuple(asked["purposes"]),
    )  # fmt: skip
    return asked.app.governance.dossier.describe(asked.actor, asked.about, said=said)


def _declare(asked: Asked) -> Any:
    from falaj.stages.registry.dossier import Foreign

    given = {name: asked[name] for name in ("vendor", "version", "purpose", "where", "risk", "owner")}
    return {"model": asked.app.governance.dossier.declare(asked.actor, asked.about, said=Foreign(**given))}


def _test(asked: Asked) -> Any:
    given = {name: asked[name] for name in ("kind", "report", "reason")}
    return asked.app.governance.dossier.test(asked.actor, asked.about, passed=not asked["failed"], **given)


def _dpia(asked: Asked) -> Any:
    asked.app.governance.dossier.dpia(asked.actor, asked.about, digest=asked["digest"], reason=asked["reason"])
    return asked.app.ledger.get("dpia", f"{asked.about.name}@{asked.about.version}")


def _pairs(items: tuple[str, ...]) -> dict[str, str]:
    """`validation=noura` → {"validation": "noura"}."""
    found = {}
    for item in items:
        step, mark, name = item.partition("=")
        if not mark or not name.strip():
            raise InvalidInput(f"{item!r} names nobody.", "--responsible validation=noura,deployment=omar")
        found[step.strip()] = name.strip()
    return found


_PURPOSE = Argument("purpose", "what it is for, in a sentence", required=True)
_RISK = Argument("risk", "its risk rating", required=True, one_of=RISKS)
_OWNER = Argument("owner", "who of the house answers for it", required=True)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "evidence",
        "make",
        "Writes an archive about one version that a stranger checks without falaj.",
        lambda asked: asked.app.governance.evidence.make(asked.actor, asked.about),
        VERSION,
    ),
    Operation(
        "model",
        "inventory",
        "Every version that ever was, third parties' too: people, steps, status, and what is overdue.",
        _inventory,
        arguments=(
            Argument("name", "only versions of that model"),
            Argument("overdue", "only those that owe something", "flag", False),
            Argument("details", "each step with its date and its responsible person, tests, ids", "flag", False),
        ),
        changes=False,
    ),
    Operation(
        "model",
        "history",
        "Who put which version into production when, and who took it out.",
        _history,
        MODEL,
        changes=False,
    ),
    Operation(
        "model",
        "describe",
        "Says what a model is for, how risky it is and who answers for it.",
        _describe,
        MODEL,
        (
            _PURPOSE,
            _RISK,
            _OWNER,
            Argument(
                "oversight", "how people look on; out of the loop for low risk alone", default="in_the_loop", one_of=OVERSIGHT
            ),
            Argument("responsible", "who answers for a step, as in validation=noura,deployment=omar", "list", ()),
            Argument("basis", "the lawful basis: on which ground the data behind it is used", default=""),
            Argument("purposes", "what its answers may be used for", "list", ()),
        ),
    ),
    Operation(
        "model",
        "declare",
        "Enters a third party's model into the inventory.",
        _declare,
        MODEL,
        (
            Argument("vendor", "who made it", required=True),
            Argument("version", "the vendor's own name of the version", required=True),
            _PURPOSE,
            Argument("where", "where it runs", required=True),
            _RISK,
            _OWNER,
        ),
    ),
    Operation(
        "model",
        "test",
        "Keeps the outcome of a test of one version, with the digest of its report.",
        _test,
        VERSION,
        (
            Argument("kind", "what was tested", required=True, one_of=TESTS),
            Argument("report", "the digest of the report, sha256:…", required=True),
            Argument("failed", "it was not passed", "flag", False),
            Argument("reason", "what came out, in a sentence", required=True),
        ),
    ),
    Operation(
        "model",
        "dpia",
        "Binds a signed data protection impact assessment to one version.",
        _dpia,
        VERSION,
        (
            Argument("digest", "the digest of the assessment, sha256:…", required=True),
            Argument("reason", "what it came to, in a sentence", default=""),
        ),
    ),
)
