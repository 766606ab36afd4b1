"""What can be done with datasets."""

from __future__ import annotations

from typing import Any

from falaj.operations.operation import Argument, Asked, Operation, Subject

DATASET = Subject("dataset", "a dataset that the project declares, as in flights")
UNTIL = Argument("until", "take in what was known at that time (default: now)", "time")


def _list_datasets(asked: Asked) -> Any:
    return [_brief(asked.app.contracts.look(name)) for name in asked.app.project.datasets]


def _brief(seen: dict[str, Any]) -> dict[str, Any]:
    return {name: seen[name] for name in ("dataset", "version", "watermark", "rows", "quarantined")}


def _quarantine(asked: Asked) -> Any:
    rows = asked.app.contracts.quarantine(asked.about.name)
    return {"rows": rows.height, "shown": rows.head(asked["limit"]).to_dicts()}


def _test(asked: Asked) -> Any:
    from falaj.stages.contracts.trial import judge

    until = asked["until"] or asked.app.kernel.now()
    return judge(asked.app.contracts, asked.about.name, until, everything=asked["everything"])


def _ingest(asked: Asked) -> Any:
    return asked.app.contracts.ingest(asked.actor, asked.about, until=asked["until"] or asked.app.kernel.now())


OPERATIONS: tuple[Operation, ...] = (
    Operation("dataset", "list", "Every declared dataset, and how far it was taken in.", _list_datasets, changes=False),
    Operation(
        "dataset",
        "show",
        "Snapshots, watermark, labels and latest decision of a dataset.",
        lambda asked: asked.app.contracts.look(asked.about.name),
        DATASET,
        changes=False,
    ),
    Operation("dataset", "ingest", "Takes in what is new, after its contract has been checked.", _ingest, DATASET, (UNTIL,)),
    Operation(
        "dataset",
        "test",
        "Asks the source and checks what it gives by the contract; nothing is taken in.",
        _test,
        DATASET,
        (
            Argument("until", "judge what was known at that time (default: now)", "time"),
            Argument("everything", "judge all that the source has, not only what is new", "flag", False),
        ),
        changes=False,
    ),
    Operation(
        "dataset",
        "quarantine",
        "Rows that a contract kept out, with the reasons.",
        _quarantine,
        DATASET,
        (Argument("limit", "how many rows to show", "integer", 20),),
        changes=False,
    ),
)
