"""Wiring of the OpenLineage export: the collector that the settings name, and what the project knows of its datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from falaj.adapters import open_adapter
from falaj.adapters.local.reference import secret
from falaj.core.errors import FalajError, InvalidInput
from falaj.ports.source import Origin

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.stages.governance.exports import Exports


def exports_of(app: App) -> Exports:
    """Raises InvalidInput where the setting names neither a file in the state folder nor an address."""
    from falaj.stages.governance.exports import Exports
    from falaj.stages.governance.openlineage import Known, told

    known = Known(
        str(app.settings.name), app.project.datasets, app.project.views,
        lambda name: columns_of(app, name), lambda name: origin_of(app, name),
    )  # fmt: skip
    return Exports(app.kernel, _sink(app), lambda event: told(event, known))


def _sink(app: App) -> Any:
    where = str(app.settings.openlineage)
    if not where.startswith("file:"):
        return app.governance.residency.open("lineage", "http", url=where, key=secret(str(app.settings.openlineage_key)))
    folder = app.state.resolve()
    path = (folder / where.removeprefix("file:")).resolve()
    if not path.is_relative_to(folder) or path == folder:
        raise InvalidInput(f"The OpenLineage file {where!r} is outside the state folder.", "write file:openlineage.jsonl.")
    return open_adapter("lineage", "file", path=path)


def columns_of(app: App, name: str) -> Sequence[str]:
    """By the contract; a contract that cannot be read has none, and its dataset is told of all the same."""
    try:
        return tuple(app.contracts.contract(name).kinds)
    except FalajError:
        return ()


def origin_of(app: App, name: str) -> Origin:
    """Where a dataset's rows come from: as its newest snapshot says, else by its declaration and contract. Nothing is opened."""
    from falaj.stages.contracts import origin
    from falaj.stages.contracts.quarantine import MENDS

    declared = app.project.datasets[name]
    loaded = [asset for asset in app.contracts.assets(name) if MENDS not in asset.labels]  # a mended row came from there too
    seen = loaded[-1].labels.get("origin") if loaded else None
    if isinstance(seen, Mapping) and seen.get("namespace") != "python":  # a function says less than its contract
        return Origin(str(seen["namespace"]), str(seen["name"]))
    try:
        written = (app.settings.folder / declared.contract).read_bytes()
    except OSError:
        written = b""
    return origin.origin_of(declared, written)
