"""A load: what a source hands out for one period, read in parts, judged by the contract, and parted into good and bad rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from falaj.core.decision import Check
from falaj.core.errors import FalajError, InvalidInput, MissingDependency, Unavailable
from falaj.ports.source import Origin, Source
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.drafts import Draft, on_disk
from falaj.stages.contracts.repeats import repeated
from falaj.stages.contracts.rows import cast, instant, keyed
from falaj.stages.contracts.rules import Around, Finding, Judge, Rule, empty, shorten
from falaj.stages.contracts.snapshots import recut
from falaj.stages.contracts.spec import Dataset, Reading


class FunctionSource:
    """A plain function of (since, until) as a source: everything that it returns is one piece."""

    capabilities = frozenset({"known"})

    def __init__(self, function: Reading) -> None:
        self._function = function

    @property
    def origin(self) -> Origin:
        where = getattr(self._function, "__module__", None) or "python"
        return Origin("python", f"{where}.{getattr(self._function, '__qualname__', type(self._function).__name__)}")

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        yield self._function(since, until)


def pieces(
    source: Source, declared: Dataset, since: datetime | None, until: datetime, *, hides: bool = False
) -> Iterator[pl.DataFrame]:
    """What the source hands out for the period. Whatever it raises, at once or half-way, becomes an error that says what to do.

    A whole table becomes known by being taken in: its `known` is `until`, whatever the source says there. `hides`: of the user's
    own errors only the kind is told, for rows are about people and the text may quote one. Raises Unavailable
    where the source fails, InvalidInput where it hands out something else, or pieces that differ.
    """
    first: pl.DataFrame | None = None
    name, is_cut = declared.name, not declared.brings_all and "known" not in source.capabilities
    try:
        for frame in source.read(since, until):
            if not isinstance(frame, pl.DataFrame):
                raise InvalidInput(f"The source of {name!r} returned a {type(frame).__name__}.", "return a polars.DataFrame.")
            if pl.Object in frame.dtypes:
                raise InvalidInput(f"The source of {name!r} hands out Python objects, which no file can keep.", _MEND)
            if first is not None and frame.schema != first.schema:
                raise InvalidInput(f"The source of {name!r} changed its columns half-way: {_differ(first, frame)}.", _MEND)
            first = frame.clear() if first is None else first
            own = _of_period(frame, declared.known, since, until) if is_cut else frame
            yield own.with_columns(stamp(until).alias(declared.known)) if declared.brings_all else own
    except FalajError:
        raise
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            f"The source of {name!r} needs {exc.name!r}, which is not installed.", f"pip install {exc.name}"
        ) from exc
    except Exception as exc:  # a source is the user's code: whatever it raises, the load can be tried again
        if hides:  # `from None`: a log tells a cause, too
            raise Unavailable(
                f"The source of {name!r} failed: {type(exc).__name__}", f"falaj dataset test {name} says why."
            ) from None
        text = str(exc)[:300]
        raise Unavailable(f"The source of {name!r} failed: {type(exc).__name__}: {text}", _MEND) from exc
    if first is None:
        raise InvalidInput(f"The source of {name!r} handed out nothing, not even columns.", "hand out an empty frame instead.")


def stamp(at: datetime) -> pl.Expr:
    """A time of a load as the value of a column."""
    return instant(at).cast(pl.Datetime("ms", "UTC"))


def _of_period(frame: pl.DataFrame, known: str, since: datetime | None, until: datetime) -> pl.DataFrame:
    """Without the rows that were taken in before or will be later. Whether a row without a time may come in, its rule says."""
    dtype = frame.schema.get(known)
    if not isinstance(dtype, pl.Datetime):
        return frame
    it = pl.col(known).dt.convert_time_zone("UTC") if dtype.time_zone else pl.col(known).dt.replace_time_zone("UTC")
    late = it > instant(until)
    other = late if since is None else late | (it <= instant(since))
    return frame.filter(~other.fill_null(False))


_MEND = "mend the source; nothing was taken in."


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows of a load as they came: in memory where they make one part, else in a draft's files."""

    parts: tuple[pl.DataFrame | Path, ...]
    schema: Mapping[str, pl.DataType]

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for part in self.parts:
            if isinstance(part, Path):
                with on_disk(part.parent):
                    frame = pl.read_parquet(part)
                yield frame
            else:
                yield part


def take(frames: Iterable[pl.DataFrame], draft: Draft, most: int, name: str = "part") -> Taken:
    """Reads everything. Of one part nothing is written; of more each is, so that one part is all that memory holds.

    `name`: of the files, another one for all that is taken into the same draft.
    """
    parts: list[pl.DataFrame | Path] = []
    schema: Mapping[str, pl.DataType] = {}
    for part in recut(frames, most):
        if len(parts) == 1 and isinstance(parts[0], pl.DataFrame):
            parts[0] = _spool(parts[0], draft.path / f"{name}-000000.parquet")
        schema = part.schema
        parts.append(_spool(part, draft.path / f"{name}-{len(parts):06d}.parquet") if parts else part)
    return Taken(tuple(parts), schema)


def _spool(part: pl.DataFrame, path: Path) -> Path:
    with on_disk(path.parent):
        part.write_parquet(path, compression="lz4", statistics=False)
    return path


@dataclass(slots=True)
class Judged:
    """A load that was looked at from end to end. `good` and `bad` hand out its rows part by part, as often as asked."""

    checks: tuple[Check, ...]
    every: tuple[Check, ...]
    findings: tuple[Finding, ...]
    rows: int
    quarantined: int
    stopped: str
    good: Callable[[], Iterator[pl.DataFrame]]
    bad: Callable[[], Iterator[pl.DataFrame]]
    around: Around = field(default_factory=Around)


@dataclass(frozen=True, slots=True)
class By:
    """What a load is judged by."""

    contract: Contract
    also: tuple[Rule, ...] = ()
    around: Around = field(default_factory=Around)
    taken: tuple[str, ...] = ()
    """Columns without a contract that come in as they are."""
    whole: bool = True


def judge(rows: Taken, by: By, draft: Draft) -> Judged:
    """Looks at every part once for its rows; keys and distinct values of a load of several parts are compared before."""
    again = _repeats(rows, by, draft) if len(rows.parts) > 1 else {}
    columns = {key: pl.col(f"_again_{place}") for place, key in enumerate(again)}
    seen_by = Judge(
        by.contract, rows.schema, also=by.also, whole=by.whole, around=by.around, taken=by.taken, again=columns
    )  # fmt: skip
    split = _Split(rows, seen_by, draft)
    for place, part in enumerate(rows):
        split.look(place, _marked(part, seen_by.rows, again))
    checks = seen_by.checks()
    stopped = seen_by.stopped
    return Judged(
        shorten(checks), tuple(checks), tuple(seen_by.findings()), seen_by.rows, 0 if stopped else split.count, stopped,
        good=split.good, bad=split.bad, around=by.around,
    )  # fmt: skip


class _Split:
    """Which rows of each part are kept out. The good rows of a part are cast anew when they are asked for."""

    def __init__(self, rows: Taken, judge: Judge, draft: Draft) -> None:
        self._rows, self._judge, self._draft = rows, judge, draft
        self._is_one = len(rows.parts) == 1
        self._broken: list[pl.Series | None] = []
        self._held: list[pl.DataFrame] = []
        self._bad: list[pl.DataFrame | Path] = []
        self.count = 0

    def look(self, place: int, part: pl.DataFrame) -> None:
        seen = self._judge.look(part)
        if seen is None:
            return
        bad = self._judge.bad(seen)
        self.count += bad.height
        if self._is_one:
            self._held, self._bad = [self._judge.good(seen)], [bad]
            return
        self._broken.append(self._judge.broken(seen))
        if bad.height:
            path = self._draft.path / f"bad-{place:06d}.parquet"
            with on_disk(path.parent):
                bad.write_parquet(path, compression="lz4")
            self._bad.append(path)

    def good(self) -> Iterator[pl.DataFrame]:
        if self._is_one:
            yield from self._held
            return
        for part, broken in zip(self._rows, self._broken, strict=True):
            kept = part if broken is None else part.filter(~broken)
            yield self._judge.cast(kept)

    def bad(self) -> Iterator[pl.DataFrame]:
        """At least one frame, which may be empty."""
        yield from Taken(tuple(self._bad) or (empty(pl.DataFrame(schema=dict(self._rows.schema))),), {})


def _repeats(rows: Taken, by: By, draft: Draft) -> dict[tuple[str, ...], pl.Series]:
    """Of each set of columns that must not repeat, the numbers of the rows that repeat an earlier one."""
    found = {}
    columns = {column.name: column for column in by.contract.columns}
    for place, key in enumerate(keyed(by.contract)):
        if all(name in rows.schema for name in key):
            casts = [cast(columns[name], rows.schema[name]).alias(name) for name in key]
            with on_disk(draft.path):
                found[key] = repeated((part.select(casts) for part in rows), draft.path / f"keys-{place}")
    return found


def _marked(part: pl.DataFrame, start: int, again: Mapping[tuple[str, ...], pl.Series]) -> pl.DataFrame:
    """The part, and for each key whether its rows repeat an earlier one."""
    marks = []
    for place, numbers in enumerate(again.values()):
        low, high = numbers.search_sorted(start), numbers.search_sorted(start + part.height)
        own = numbers.slice(int(low), int(high) - int(low)) - start
        marks.append(pl.int_range(part.height, dtype=pl.UInt64, eager=True).is_in(own.implode()).alias(f"_again_{place}"))
    return part.with_columns(marks) if marks else part


def _differ(one: pl.DataFrame, other: pl.DataFrame) -> str:
    here, there = dict(one.schema), dict(other.schema)
    for name in dict.fromkeys([*here, *there]):
        if here.get(name) != there.get(name):
            return f"{name} is {there.get(name, 'gone')} after {here.get(name, 'not being there')}"
    return "their order"


def labels_of(origin: Origin) -> dict[str, Any]:
    return {"namespace": origin.namespace[:200], "name": origin.name[:200]}
