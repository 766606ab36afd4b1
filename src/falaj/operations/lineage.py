"""What can be asked about lineage: where something came from, and what came of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from falaj.operations.operation import Argument, Asked, Operation, Subject

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.ports.source import Origin

KINDS = ("dataset", "column", "view", "feature", "training", "candidate", "model", "endpoint")
DIRECTION = Argument(
    "direction", "towards the sources, towards the endpoints, or both", default="both", one_of=("up", "down", "both")
)
LEVEL = Argument("level", "datasets, or each of their columns (default: by what is asked about)", one_of=("dataset", "column"))
AT = Argument("at", "as the ledger stood at that time (default: now)", "time")


@dataclass(frozen=True, slots=True)
class Anything(Subject):
    """Whatever has a lineage, by its kind and name; letters count alike, large or small, since a column has any."""

    def read(self, text: str) -> Ref:
        ref = Ref.parse(text.lower())
        if ref.kind not in KINDS:
            raise InvalidInput(f"{text!r} is a {ref.kind}, which has no lineage.", f"name one of: {', '.join(KINDS)}.")
        return ref


ABOUT = Anything("ref", "what is asked about, as in dataset/flights, column/flights.arr_delay or model/delay@7", "optional")


def lineage_of(app: App, about: Ref | None, *, direction: Any = "both", level: Any = None, at: datetime | None = None) -> Any:
    """The lineage of one thing, or of the whole project. Raises NotFound where nothing has that name."""
    from falaj.openlineage import columns_of, origin_of
    from falaj.stages.governance.graph import Declared, as_of, lineage

    project = app.project
    declared = Declared(
        project.datasets, project.views, project.trainings, project.endpoints,
        lambda name: columns_of(app, name), lambda name: _told(app, origin_of(app, name)),
    )  # fmt: skip
    records = as_of(app.ledger.events(), at) if at is not None else app.ledger.find
    return replace(lineage(declared, records, about, direction=direction, level=level), at=at)


def _told(app: App, origin: Origin) -> str:
    """Files by their path in the project's folder: where that lies on a machine means nothing to a reader."""
    name = origin.name
    if origin.namespace == "file" and Path(name).is_absolute():
        name = os.path.relpath(name, Path(app.settings.folder).resolve())
        name = origin.name if name.startswith("..") else name
    return f"{origin.namespace}/{name}"


def _show(asked: Asked) -> Any:
    return lineage_of(asked.app, asked.about, direction=asked["direction"], level=asked["level"], at=asked["at"])


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "lineage",
        "show",
        "Where something came from and what came of it, down to single columns.",
        _show,
        ABOUT,
        (DIRECTION, LEVEL, AT),
        changes=False,
        asks="dataset.read",
    ),
)

__all__ = ["ABOUT", "OPERATIONS", "lineage_of"]
