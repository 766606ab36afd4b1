"""Doors: every way in, a route, a command, a duty of the worker or a run's step, is bound to a right, or nothing starts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from falaj.core.errors import Bug

PUBLIC: Mapping[str, str] = {
    # door: why it is open to everybody who reaches it
    "route GET /health": "says that the process answers, and nothing else",
    "command init": "makes the project in which somebody could be asked",
    "command config show": "shows the settings that whoever reads the folder can read, and opens no state",
    "command doctor": "looks for what keeps the others from working, such as a key that is lost",
    "command feature import": "reads a Feast repository and writes files; it opens no project",
}


@dataclass(frozen=True, slots=True)
class Door:
    """`kind`: route, command, duty or step. `rights`: what policy is asked behind it, one verb or more."""

    kind: str
    name: str
    rights: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def refuse_unbound(doors: Iterable[Door], known: Collection[str] | None = None) -> None:
    """Raises Bug for a door that is neither bound nor in PUBLIC, or is bound to a right that no role can have.

    `known`: the verbs that policy knows; None where it cannot say.
    """
    for door in doors:
        if str(door) in PUBLIC and not door.rights:
            continue
        unknown = [right for right in door.rights if known is not None and right not in known]
        if unknown or not door.rights or not all(door.rights):
            raise Bug(
                f"The {door} asks policy for {', '.join(unknown) or 'nothing'}, which no role can have.",
                "bind it to a verb of the role table, or name it in falaj.stages.doors.PUBLIC with a reason.",
            )
