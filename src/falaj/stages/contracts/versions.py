"""Versions: of each key the row that is known at a time, and which rows of a whole table are new or changed."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

from falaj.core.errors import InvalidInput
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.rules import REASONS, ROW

_PLACE = "_place"


def key_of(contract: Contract, name: str) -> tuple[str, ...]:
    """The contract's key. Raises InvalidInput where it has none: without one nobody can say which row is which."""
    if not contract.key:
        raise InvalidInput(
            f"The contract of {name!r} names no key, so its rows cannot be told apart.", "mark its columns with primaryKey: true."
        )
    return contract.key


def latest(rows: pl.LazyFrame, key: tuple[str, ...], known: str) -> pl.LazyFrame:
    """Of each key the row that became known last; of several at one moment the one that was taken in last."""
    return rows.sort(known, maintain_order=True).unique(subset=list(key), keep="last", maintain_order=True)


@dataclass(slots=True)
class Table:
    """A source that hands out everything that it has, against what is known already.

    `held`: all rows so far, unread. A null equals a null, and a NaN a NaN. Rows that the source no longer hands out are
    counted, and stay as they were last known: a source that broke off half-way must not delete a table.
    """

    held: pl.LazyFrame | None
    key: tuple[str, ...]
    known: str
    kept_out: pl.DataFrame | None = None
    """What is in quarantine: a row that is broken in the same way each time is kept there once."""
    met: int = field(default=0, init=False)
    """Rows, good or bad, whose key is held."""

    def fresh(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Of good rows those that are new, or not as they are known."""
        for frame in frames:
            before = self._before(frame)
            if before is None:
                yield frame
                continue
            self.met += before.height
            others = [name for name in frame.columns if name not in (*self.key, self.known)]
            lacks = [name for name in others if name not in before.columns]
            was = [
                pl.col(name).cast(frame.schema[name], strict=False).alias(f"_was_{name}") for name in others if name not in lacks
            ]
            old = before.select(*self.key, *was)
            both = frame.join(old.with_columns(pl.lit(True).alias("_met")), on=list(self.key), how="left", maintain_order="left")
            changed = [pl.col(name).ne_missing(pl.col(f"_was_{name}")) for name in others if name not in lacks]
            changed += [pl.col(name).is_not_null() for name in lacks]  # a column that came later: null is what it was
            is_new = pl.col("_met").is_null()
            yield both.filter(functools.reduce(operator.or_, changed, is_new)).select(frame.columns)

    def fresh_bad(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Of rows that are kept out those that are not in quarantine as they are."""
        for frame in frames:
            # The second row with a key is kept out for that: the first, good or bad, has been counted.
            firsts = frame.filter(~pl.col(REASONS).list.contains(f"{', '.join(self.key)} is the key"))
            before = self._before(firsts)
            self.met += before.height if before is not None else 0
            if self.kept_out is None or not self.kept_out.height:
                yield frame
                continue
            marks = [_text(name) for name in _comparable(frame) if name in self.kept_out.columns and name != self.known]
            there = self.kept_out.select(pl.concat_str(marks, separator="\x1f").alias(_PLACE))[_PLACE]
            yield frame.filter(~pl.concat_str(marks, separator="\x1f").is_in(there.implode()))

    def vanished(self) -> int:
        """How many keys are held that the source did not hand out. Asked for after all parts went through."""
        if self.held is None:
            return 0
        count = self.held.select(pl.struct(*self.key).n_unique()).collect(engine="streaming").item()
        return max(int(count) - self.met, 0)

    def _before(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        """What is known of these keys: as many rows as the frame has, at most, however large the table is."""
        if self.held is None or not frame.height:
            return None
        keys = frame.select(self.key).drop_nulls().unique()
        wanted = {name: frame.schema[name] for name in self.key}
        held = self.held.with_columns(pl.col(name).cast(dtype, strict=False) for name, dtype in wanted.items())
        rows = held.join(keys.lazy(), on=list(self.key), how="semi", maintain_order="left")
        return latest(rows, self.key, self.known).collect(engine="streaming")


def _comparable(frame: pl.DataFrame) -> list[str]:
    """The columns whose values can be written as a text; and the reasons."""
    return [name for name, dtype in frame.schema.items() if name == REASONS or (name != ROW and not dtype.is_nested())]


def _text(name: str) -> pl.Expr:
    it = pl.col(name)
    return (it.list.join("\x1e") if name == REASONS else it.cast(pl.String)).fill_null("\x00")
