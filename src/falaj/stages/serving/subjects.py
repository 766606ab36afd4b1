"""What the prediction logs hold about one person: lines found by token, opened with the key, unreadable without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from falaj.core.errors import NotFound
from falaj.ports.predictions import Predictions
from falaj.ports.subjects import Finding


class PredictionSubjects:
    """`endpoints`: by name; `log_of` gives their logs, which open what is sealed; `token_of` the token of a person.

    The log has no index: its bytes are searched, and only lines with the token are parsed. Nothing is ever removed from it, for
    its lines are proven; the destroyed key is what erases.
    """

    name = "predictions"

    def __init__(self, endpoints: Iterable[str], log_of: Callable[[str], Predictions], token_of: Callable[[str], str]) -> None:
        self.endpoints = tuple(endpoints)
        self.log_of = log_of
        self.token_of = token_of

    def find(self, subject: str) -> list[Finding]:
        found = []
        for place, records, in_clear in self._segments(subject):
            if records:
                found.append(Finding(self.name, place, len(records), readable=any(map(_is_readable, records))))
            if in_clear:
                found.append(Finding(self.name, f"{place} (in clear)", in_clear, readable=True))
        return found

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        for place, records, _ in self._segments(subject):
            for record in records:
                if _is_readable(record):
                    yield {"store": self.name, "place": place, **record}

    def erase(self, subject: str) -> list[Finding]:
        """Nothing: no plain copy of a sealed line is kept."""
        return []

    def probe(self, subject: str) -> list[Finding]:
        """Reads as monitors and traces do, and searches every line for the person's name as it stands in data."""
        return [finding for finding in self.find(subject) if finding.readable]

    def _segments(self, subject: str) -> Iterator[tuple[str, list[Mapping[str, Any]], int]]:
        """Of each segment that has any: the person's records, opened, and how many lines name the person in clear."""
        wanted = f'"subject":"{self.token_of(subject)}"'.encode()
        names = {json.dumps(subject.strip(), ensure_ascii=is_ascii).encode() for is_ascii in (True, False)}
        for endpoint in self.endpoints:
            log = self.log_of(endpoint)
            for number, lines in _lines(log):
                records = [record for line in lines if wanted in line for record in log.records(line)]
                in_clear = sum(any(name in line for name in names) for line in lines)
                if records or in_clear:
                    yield f"endpoint/{endpoint} segment {number}", records, in_clear


def _is_readable(record: Mapping[str, Any]) -> bool:
    return not record.get("erased")


def _lines(log: Predictions) -> Iterator[tuple[int, list[bytes]]]:
    """Every segment that is there: those that were sealed, and the open one behind them."""
    closed = [seal.segment for seal in log.seals()]
    behind = max(closed, default=-1) + 1
    for number in closed:
        try:
            yield number, log.lines(number)
        except NotFound:  # retention removed it, and left its seal
            continue
    while True:
        try:
            yield behind, log.lines(behind)
        except NotFound:
            return
        behind += 1
