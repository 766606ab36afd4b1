"""Whom an endpoint may not be asked about: the control plane writes it down, every worker of the endpoint follows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from falaj.core.errors import Denied, FalajError, Unavailable
from falaj.inference.calls import Call, EntityCall
from falaj.inference.errors import at_place
from falaj.inference.personal import Whose
from falaj.inference.report import stamp
from falaj.ports.host import EXCLUDED


class Excluded:
    """`excluded.json` in the endpoint's folder: the tokens of people, a keyed hash each, and nothing else about them.

    Where there is no such file nobody is excluded; where it cannot be read, nobody is answered about.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / EXCLUDED
        self._seen: tuple[int, int, int] | None = None
        self.tokens: frozenset[str] | None = frozenset()
        """None: nobody knows."""

    def look(self) -> None:
        """Takes in what changed. Replaces the set as a whole: a call sees the one or the other."""
        seen = stamp(self._path)
        if seen == self._seen and self.tokens is not None:
            return
        try:
            tokens = _read(self._path) if any(seen) else frozenset()
        except (OSError, ValueError, TypeError, KeyError):
            self.tokens, self._seen = None, None
            return
        self.tokens, self._seen = tokens, seen

    def has(self, token: str) -> bool:
        """Whether what is stored about that person may not be read."""
        return self.tokens is None or token in self.tokens

    def refuse(self, whose: Whose, call: Call, unit: str) -> None:
        """Raises Denied where one of the requests is about somebody who is excluded, Unavailable where nobody knows who is.

        A refusal names nobody, is not logged, and counts against no model. `unit`: the request field that is split on; a call
        by tensor says whom it is about by its unit alone, where units are people.
        """
        tokens = self.tokens
        if tokens is None:
            raise Unavailable("Whom this endpoint may not be asked about cannot be read.", "falaj worker tick writes it anew.")
        if not tokens:
            return
        people = _people(whose, call, unit)
        for place, person in enumerate(people):
            if person and whose.vault.token(person) in tokens:
                error: FalajError = Denied(
                    "This endpoint may not be asked about that person.",
                    "their consent was withdrawn or their data is restricted; falaj subject check says which.",
                )
                raise at_place(error, "requests", place) if len(people) > 1 else error


def _people(whose: Whose, call: Call, unit: str) -> Sequence[str]:
    if isinstance(call, EntityCall):
        return [whose.person(request) for request in call.requests]
    return [call.unit.strip() if unit == whose.subject else ""]


def _read(path: Path) -> frozenset[str]:
    tokens = orjson.loads(path.read_bytes())["tokens"]
    if not isinstance(tokens, list):
        raise TypeError
    return frozenset(map(str, tokens))
