"""Host: makes what is served equal to what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Arm:
    """One model behind an endpoint. `manifest`: the signed envelope of the registered model. `share`: of the units, 0 to 1."""

    role: str
    """`champion` or `challenger`."""
    model: str
    """The Ref of the version, `model/delay@7`."""
    digest: str
    share: float
    release: str
    """The Ref of the release, `release/delay@3`."""
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an endpoint is to serve. `salt` makes the split; `threshold` turns a probability into a yes or no."""

    endpoint: str
    revision: int
    """The seq of the ledger event that it follows from: a greater one replaces a smaller one."""
    arms: tuple[Arm, ...]
    salt: str
    threshold: float
    unit: str = ""
    """The request field that is split on; empty splits each request by itself."""
    stream: Mapping[str, Any] = field(default_factory=dict)
    """Where requests come from as messages: `source`, `sink`, `dead`, `group`, `batch`, `tries`; empty where they do not."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is served now. `pid` is 0 where no process runs."""

    endpoint: str
    url: str
    ready: bool
    revision: int
    pid: int
    memory_bytes: int = 0
    cpu_seconds: float = 0.0


class Host(Protocol):
    """capabilities: `split` (can divide traffic between arms)."""

    capabilities: frozenset[str]

    def serve(self, wanted: Wanted, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """Makes it so; the same again changes nothing. `keys`: HMAC of a key → its actor. Returns when the server took it over.

        Raises Unavailable where the server does not come up, Conflict where its port is taken.
        """
        ...

    def allow(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """Replaces the keys on every endpoint; a key that is no longer there is refused from the next request on."""
        ...

    def look(self, endpoint: str) -> Seen:
        """Raises NotFound where nothing was ever served there."""
        ...

    def supervise(self) -> list[str]:
        """Starts again whatever died though it is wanted; returns the endpoints that it started. For once a second."""
        ...

    def stop(self, endpoint: str) -> None: ...
