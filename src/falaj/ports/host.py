"""Host: makes what is served equal to what is wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from falaj.core.errors import InvalidInput

BUCKETS = 10_000
"""Into so many equal parts the units of an endpoint fall; an arm has some of them, so 0.0001 is the smallest share."""
VARIANT = "variant-"
EXCLUDED = "excluded.json"
"""The file in an endpoint's folder that says whom it may not be asked about, where host and server share a disk."""
SIDE = frozenset({"standby", "shadow"})
"""Roles that are loaded and answer nobody who does not ask for them by name."""
_FIXED = frozenset({"champion", "challenger"}) | SIDE
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")

Runs = tuple[tuple[int, int], ...]
"""Buckets, as runs [from, to)."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One model behind an endpoint. `manifest`: the signed envelope of the registered model.

    Raises InvalidInput for a role that does not exist, a share outside of 0 to 1, and buckets that are none.
    """

    role: str
    """`champion` answers whoever no other arm answers; there is one. `challenger`: tried out by a rollout.
    `variant-<name>`: one side of an A/B test. `standby`: loaded and warm, answers nobody until it is switched to.
    `shadow`: gets a copy of some requests and never answers."""
    model: str
    """The Ref of the version, `model/delay@7`."""
    digest: str
    share: float
    """Of the units that it answers, 0 to 1; 0 for the standby. Of the shadow: of the units whose requests it gets a copy of."""
    release: str
    """The Ref of the release, `release/delay@3`."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    buckets: Runs = ()
    """The buckets that are its own, where it must keep them while other arms change; empty: counted from the shares."""

    def __post_init__(self) -> None:
        if self.role not in _FIXED and not _NAME.fullmatch(self.role.removeprefix(VARIANT) if is_variant(self.role) else "-"):
            raise InvalidInput(
                f"{self.role!r} is no role of an arm.",
                f"there is: {', '.join(sorted(_FIXED))}, and variant-<name> of small letters, digits and '_'.",
            )
        if not 0 <= self.share <= 1:
            raise InvalidInput(f"The share {self.share} of the {self.role} {self.model} must be from 0 to 1.")
        if any(not 0 <= low < high <= BUCKETS for low, high in self.buckets):
            raise InvalidInput(
                f"The buckets of {self.role} must lie within 0 to {BUCKETS}.", "the first is part of a run, the last not."
            )

    @property
    def answers(self) -> bool:
        """Whether it answers callers who ask for no arm."""
        return self.role not in SIDE


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an endpoint is to serve. `salt` makes the split; `threshold` turns a probability into a yes or no."""

    endpoint: str
    revision: int
    """The seq of the ledger event that it follows from: a greater one replaces a smaller one."""
    arms: tuple[Arm, ...]
    """The champion first; each role once."""
    salt: str
    threshold: float
    unit: str = ""
    """The request field that is split on; empty splits each request by itself."""
    subject: str = ""
    """The request field that names a person; empty: as the models' manifests say."""
    mask: Mapping[str, str] = field(default_factory=dict)
    """What the prediction log may not hold: `class:<classification>`, a field or `view.feature` → `hash`, `drop` or `keep`."""
    stream: Mapping[str, Any] = field(default_factory=dict)
    """Where requests come from as messages: `source`, `sink`, `dead`, `group`, `batch`, `tries`; empty where they do not."""
    killed: Mapping[str, str] = field(default_factory=dict)
    """`by`, `at`, `reason` of who took the endpoint out of use: nothing is answered until it is revived. Empty: it is in use."""


def is_variant(role: str) -> bool:
    return role.startswith(VARIANT)


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
    """capabilities: `split` (can divide traffic between arms, and keep some warm or in the shadow)."""

    capabilities: frozenset[str]

    def serve(self, wanted: Wanted, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """Makes it so; the same again changes nothing. `keys`: HMAC of a key → its actor. Returns when the server took it over.

        Where it is `killed`, every worker refuses to predict from then on, and says so first: whatever else keeps the revision
        from being taken over, and whoever starts again, finds it refused.

        Raises Unavailable where the server does not come up, Conflict where its port is taken.
        """
        ...

    def allow(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """Replaces the keys on every endpoint; a key that is no longer there is refused from the next request on."""
        ...

    def exclude(self, endpoint: str, tokens: Collection[str]) -> None:
        """Replaces whom the endpoint may not be asked about, by their tokens; also before it is served for the first time.

        Heeded within a second by every server of it that runs, and from its first request on by one that starts later.
        """
        ...

    def look(self, endpoint: str) -> Seen:
        """Raises NotFound where nothing was ever served there."""
        ...

    def supervise(self) -> list[str]:
        """Starts again whatever died though it is wanted; returns the endpoints that it started. For once a second."""
        ...

    def stop(self, endpoint: str) -> None: ...
