"""What can be done with the streams of endpoints: how far they are, and dead letters sent through once more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from falaj.core.errors import NotFound
from falaj.operations.operation import Argument, Asked, Operation
from falaj.operations.serving import ENDPOINT

if TYPE_CHECKING:
    from falaj.stages.serving.letters import Letters


def _names(asked: Asked) -> Mapping[str, Any]:
    """The streams that the endpoint takes its requests from: as they are served, or else as they are declared."""
    served = (asked.app.ledger.get("endpoint", asked.about.name) or {}).get("wanted", {}).get("stream")
    declared = asked.app.project.one("endpoints", asked.about.name).stream
    if not served and declared is None:
        raise NotFound(f"{asked.about} takes no messages.", "declare stream=falaj.StreamIO('requests', 'answers') with it.")
    return served or asdict(declared)


@contextlib.contextmanager
def _letters(asked: Asked) -> Iterator[Letters]:
    """Opened for one call: a broker's client belongs to one thread, and none is kept while nobody asks."""
    from falaj.brokers import Brokers
    from falaj.stages.serving.letters import Letters

    with contextlib.closing(Brokers(asked.app.settings, asked.app.governance.residency.open)) as brokers:
        yield Letters(asked.app.kernel, brokers.stream)


def _show(asked: Asked) -> Any:
    names = _names(asked)
    with _letters(asked) as letters:
        return {"endpoint": str(asked.about), **letters.look(names, asked["newest"])}


def _replay(asked: Asked) -> Any:
    names = _names(asked)
    with _letters(asked) as letters:
        return letters.replay(asked.actor, asked.about, names=names, limit=asked["limit"], reason=asked["reason"])


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "stream",
        "show",
        "How many messages an endpoint has not answered yet, and its dead letters with the reasons; no contents.",
        _show,
        ENDPOINT,
        (Argument("newest", "how many dead letters to show", "integer", 10),),
        changes=False,
        asks="endpoint.read",
    ),
    Operation(
        "stream",
        "replay",
        "Sends dead letters through once more, oldest first.",
        _replay,
        ENDPOINT,
        (
            Argument("limit", "how many at most", "integer", 1000),
            Argument("reason", "why, for whoever asks later", required=True),
        ),
    ),
)
