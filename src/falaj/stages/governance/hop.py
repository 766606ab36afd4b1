"""Hop: one step of a trace, with what is said there and what was checked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from falaj.core.decision import Check
from falaj.core.errors import FalajError


@dataclass(frozen=True, slots=True)
class Hop:
    title: str
    facts: Mapping[str, Any]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool | None:
        """False: something is not what it was. None: something could not be seen. True: everything was seen and is right."""
        seen = [check.passed for check in self.checks]
        return False if False in seen else None if None in seen or not seen else True


@dataclass(slots=True)
class HopDraft:
    """A hop in the making. Whatever goes wrong while something is asked becomes a failed check of that name."""

    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def note(self, **facts: Any) -> None:
        self.facts.update({name: value for name, value in facts.items() if value is not None})

    def check(self, name: str, wanted: str, seen: str, passed: bool | None) -> None:
        self.checks.append(Check(name, wanted, seen, passed))

    @contextmanager
    def asking(self, name: str, wanted: str) -> Iterator[None]:
        try:
            yield
        except FalajError as exc:
            self.check(name, wanted, exc.message, False)
        except Exception as exc:  # records that somebody has changed can break anything that reads them
            self.check(name, wanted, f"it cannot be read: {type(exc).__name__}: {str(exc)[:200]}", False)

    def done(self) -> Hop:
        return Hop(self.title, dict(self.facts), tuple(self.checks))
