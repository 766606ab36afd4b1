"""Policy: who may do what. Whatever it cannot decide is denied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.ref import Ref


class Policy(Protocol):
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any]) -> Decision:
        """Allow or deny, with the rule that decided. Never raises: an error inside is a deny."""
        ...
