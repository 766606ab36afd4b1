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

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"
