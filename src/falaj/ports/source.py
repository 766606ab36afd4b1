"""Source: where data comes from, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True, slots=True)
class Origin:
    """The outside name of what is read, as OpenLineage names datasets: `postgres://host:5432` and `shop.public.orders`.

    Neither part ever holds a user name, a password or a token.
    """

    namespace: str
    name: str


class Source(Protocol):
    """capabilities: `known` (hands out only rows that became known in the period; any other hands out everything that it
    has, whatever the period), `bounded` (holds a few pieces at a time, however large the table is).
    """

    capabilities: frozenset[str]

    @property
    def origin(self) -> Origin: ...

    def read(self, since: datetime | None, until: datetime) -> Iterator[polars.DataFrame]:
        """The rows known in (since, until], in pieces of any size; `since` None is from the beginning.

        The same data come in the same order each time. All pieces have the same columns and types; a source without any
        rows still hands out one piece with its columns. Text is not parsed into another type unless the options say so.

        Raises, at once or at any piece: Unavailable where the source does not answer or stops half-way (retryable),
        NotFound where there is no such file, table or bucket, InvalidInput where what is there cannot be read as what it
        is declared to be (which file, which line or column, what was seen), Denied where credentials are refused,
        MissingDependency. Closing the iterator early frees everything.
        """
        ...
