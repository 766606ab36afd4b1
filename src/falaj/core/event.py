"""Event: what anybody changed, with the change itself, so that state can be rebuilt from events alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from falaj.core.actor import Actor
from falaj.core.ref import Ref


@dataclass(frozen=True, slots=True)
class Change:
    """The record `kind`/`key` now reads `body`; None means that it is gone."""

    kind: str
    key: str
    body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Event:
    """One leaf of the ledger. `seq` counts from 0 without gaps and is set by the ledger."""

    verb: str
    """The noun and the verb of the action: `model.promote`."""
    subject: Ref
    actor: Actor
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Digests and figures; never personal data."""
    changes: tuple[Change, ...] = ()
    trace: str = ""
    seq: int = -1
