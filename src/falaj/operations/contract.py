"""What can be asked about contracts: shown, linted, compared. Only contract files of the project are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.operations.operation import Argument, Asked, Operation

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.stages.contracts.contract import Contract

_WHICH = "a declared dataset, flights, or the version a snapshot came in under, flights@3, or a file of the project"
WHAT = Argument("what", _WHICH, required=True, placed=True)
OLD = Argument("old", _WHICH, required=True, placed=True)
NEW = Argument("new", _WHICH, required=True, placed=True)


def _show(asked: Asked) -> Any:
    from falaj.stages.contracts.rule_diff import told

    contract = _contract(asked.app, asked["what"])
    return {
        "name": contract.name,
        "version": contract.version,
        "status": contract.status,
        "owner": contract.owner,
        "description": contract.description,
        "key": list(contract.key),
        "labels": dict(contract.labels),
        "sla": [{"property": name, **entry} for name, entry in contract.sla.items()],
        "columns": [
            {
                "column": column.name,
                "type": f"{column.kind} {column.width}".strip(),
                "required": column.required,
                "limits": ", ".join(f"{op} {limit}" for op, limit in column.limits) or column.pattern,
                "classification": column.classification,
                "references": ".".join(column.references or ()),
            }
            for column in contract.columns
        ],
        "rules": [{"rule": check.name, "asks": told(check), "severity": check.severity} for check in contract.checks],
    }


def _lint(asked: Asked) -> Any:
    from falaj.stages.contracts.lint import lint
    from falaj.stages.contracts.unversioned import before

    app, what = asked.app, asked["what"]
    data, file = _bytes(app, what)
    of = [declared for declared in app.project.datasets.values() if declared.contract == file]
    times = {time for declared in of for time in (declared.time, declared.known)}
    old = before(app.contracts.assets(of[0].name), app.blobs) if of else None
    return lint(data, file, times=tuple(sorted(times)), others=_readable(app), before=old)


def _diff(asked: Asked) -> Any:
    from falaj.stages.contracts.diff import diff

    return diff(_contract(asked.app, asked["old"]), _contract(asked.app, asked["new"]))


def _contract(app: App, what: str) -> Contract:
    from falaj.stages.contracts import odcs

    return odcs.read(*_bytes(app, what))


def _bytes(app: App, what: str) -> tuple[bytes, str]:
    """The contract that is meant, and the name of its file."""
    from falaj.stages.contracts.files import contract_bytes

    datasets = app.project.datasets
    name, at, version = what.partition("@")
    files = frozenset(declared.contract for declared in datasets.values())
    if name in datasets and at:
        return _taken(app, name, version), what
    if what in datasets:
        return contract_bytes(app.settings.folder, datasets[what].contract, files), datasets[what].contract
    if "/" not in what and "." not in what:
        raise NotFound.named("dataset", what, datasets)
    return contract_bytes(app.settings.folder, what, files), what


def _taken(app: App, name: str, version: str) -> bytes:
    """The contract under which a snapshot was taken in, as it stood then."""
    found = next((asset for asset in app.contracts.assets(name) if asset.ref.version == version), None)
    if found is None or "contract" not in found.labels:
        raise NotFound(f"The dataset {name!r} has no snapshot {version[:20]!r}.", f"falaj dataset show {name}")
    return app.blobs.get(str(found.labels["contract"]))


def _readable(app: App) -> Mapping[str, Contract]:
    """The contract of every dataset; what cannot be read is told when it is linted itself."""
    found = {}
    for name in app.project.datasets:
        try:
            found[name] = app.contracts.contract(name)
        except FalajError as exc:
            if not isinstance(exc, (InvalidInput, NotFound)):
                raise
    return found


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "contract", "show", "A contract as falaj understands it.", _show, arguments=(WHAT,), changes=False, asks="dataset.read"
    ),
    Operation(
        "contract",
        "lint",
        "What is wrong with a contract, and what it leaves open.",
        _lint,
        arguments=(WHAT,),
        changes=False,
        asks="dataset.read",
    ),
    Operation(
        "contract",
        "diff",
        "What changed between two contracts, whom it breaks, and whether the version says so.",
        _diff,
        arguments=(OLD, NEW),
        changes=False,
        asks="dataset.read",
    ),
)
