"""Actor: a person or a service that asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    name: str
    kind: str = "person"
    """`person`, `service` or `system`."""
    roles: tuple[str, ...] = ()
    zone: str = "local"
    grant: str = ""
    """Under which break-glass access it acts, as in `access/4f1c…`; empty in ordinary times."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"
