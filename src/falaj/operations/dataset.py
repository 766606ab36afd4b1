"""What can be done with datasets."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.operations.operation import Argument, Asked, Operation, Subject

DATASET = Subject("dataset", "a dataset that the project declares, as in flights")
LOAD = Subject("dataset", "a dataset, as in flights, or one of its snapshots, as in flights@7", "optional")
SNAPSHOT = Subject("dataset", "a snapshot, as in flights@7", "needed")
UNTIL = Argument("until", "take in what was known at that time (default: now)", "time")
LIMIT = Argument("limit", "how many rows to show", "integer", 20)


def _list_datasets(asked: Asked) -> Any:
    return [_brief(asked.app.contracts.look(name)) for name in asked.app.project.datasets]


def _brief(seen: dict[str, Any]) -> dict[str, Any]:
    return {name: seen[name] for name in ("dataset", "version", "watermark", "rows", "quarantined")}


def _quarantine(asked: Asked) -> Any:
    from falaj.stages.contracts.mending import VERSION
    from falaj.stages.contracts.quarantine import explained

    contracts = asked.app.contracts
    rows = contracts.quarantine(asked.about.name, waiting=bool(asked["waiting"]))
    shown = rows.head(asked["limit"])
    wanted: dict[str, str] = {}
    for version in shown[VERSION].unique().to_list():
        try:
            told = contracts.report(asked.about.at(version))
        except NotFound:  # kept out before there were reports
            continue
        wanted |= {str(found["rule"]): str(found["wanted"]) for found in told["findings"]}
    return {"rows": rows.height, "shown": explained(shown, wanted)}


def _test(asked: Asked) -> Any:
    from falaj.stages.contracts.trial import judge

    until = asked["until"] or asked.app.kernel.now()
    return judge(asked.app.contracts, asked.about.name, until, everything=asked["everything"])


def _ingest(asked: Asked) -> Any:
    return asked.app.contracts.ingest(asked.actor, asked.about, until=asked["until"] or asked.app.kernel.now())


def _replay(asked: Asked) -> Any:
    rows = None
    if asked["file"] or asked["rows"]:
        from falaj.stages.contracts.mending import read_rows, table

        if asked["file"] and asked["rows"]:
            raise InvalidInput("The mended rows are given twice.", "give a file or rows.")
        given = (asked["rows"] or {}).get("rows", ())
        rows = read_rows(asked.app.settings.folder, asked["file"]) if asked["file"] else table(given)
    return asked.app.contracts.replay(asked.actor, asked.about, rows=rows)


def _profile(asked: Asked) -> Any:
    from falaj.stages.contracts.profile import told

    contracts, about = asked.app.contracts, asked.about
    if about.version is None:
        newest = contracts.look(about.name)["version"]
        if not newest:
            raise NotFound(f"Nothing of {about} was taken in yet.", f"falaj dataset ingest {about.name}")
        about = about.at(str(newest))
    found = contracts.profile(about)
    return {"snapshot": str(about), "rows": found["rows"], "columns": told(found)}


def _diff(asked: Asked) -> Any:
    other = asked.about.at(asked["to"])
    return asked.app.contracts.diff(asked.about, other, state=bool(asked["state"]))


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
        "Rows that a contract kept out, with their place in the load, the reasons, and what is wanted instead.",
        _quarantine,
        DATASET,
        (LIMIT, Argument("waiting", "only rows that have not been mended since", "flag")),
        changes=False,
    ),
    Operation(
        "dataset",
        "replay",
        "Sends rows from quarantine through the contract again, as they came or as mended.",
        _replay,
        DATASET,
        (
            Argument("file", "mended rows: a .csv, .jsonl or .parquet file in the project's folder, with _version and _row"),
            Argument("rows", 'mended rows, as {"rows": [{"_version": 1, "_row": 4, …}]}', "object"),
        ),
    ),
    Operation(
        "dataset",
        "report",
        "Every check of a load, and which rows broke it; of a clean load its checks alone.",
        lambda asked: asked.app.contracts.report(asked.about),
        LOAD,
        changes=False,
    ),
    Operation(
        "dataset",
        "profile",
        "What the columns of a snapshot look like: missing values, range, mean, bins, values; without a version, of the newest.",
        _profile,
        LOAD,
        changes=False,
    ),
    Operation(
        "dataset",
        "diff",
        "What differs from one snapshot to another: columns, rows, and how values are spread.",
        _diff,
        SNAPSHOT,
        (
            Argument("to", "the version of the other snapshot, as in 8", required=True),
            Argument("state", "compare the whole dataset as it stood with each, not what each brought", "flag"),
        ),
        changes=False,
    ),
)
