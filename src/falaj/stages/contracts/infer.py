"""Infer: a first contract from data, which accepts the very data that it came from; what was guessed is marked for a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from falaj.core.errors import InvalidInput
from falaj.core.wording import count
from falaj.stages.contracts import expression, guess, personal
from falaj.stages.contracts.contract import Column, Contract, Quality
from falaj.stages.contracts.odcs import MOST_COLUMNS, write

FEW = 20
"""Fewer values than this say little about those to come: no list and no form is read off them."""

_WIDTHS: Mapping[pl.DataType | type[pl.DataType], str] = {
    pl.Int8: "i8", pl.Int16: "i16", pl.Int32: "i32", pl.UInt8: "u8", pl.UInt16: "u16", pl.UInt32: "u32", pl.Float32: "f32",
}  # fmt: skip
"""The wide ones are what a number is kept in anyway."""

_MOST_PAIRS = 12


@dataclass(frozen=True, slots=True)
class Inferred:
    contract: Contract
    notes: Mapping[str, tuple[str, ...]]
    """What somebody should look at, by column; by the empty name, about the whole."""

    @property
    def written(self) -> bytes:
        """The contract file, with the notes as comments."""
        return write(self.contract, self.notes)


def infer(frame: pl.DataFrame, name: str, *, time: str = "", known: str = "", owner: str = "") -> Inferred:
    """Types, nulls, key, ranges, lists and forms as they are seen. `time` and `known` as the dataset will name them.

    Limits have slack and readable numbers. Rows with numbers that are not finite stay out, as under any contract. Raises
    InvalidInput where no column can be described, there are too many, or `time` or `known` is no time.
    """
    notes: dict[str, list[str]] = {
        "": [f"Made from {count(frame.height)}. Look at every line: data shows what was, not what must be."]
    }
    usable, left_out = _usable(frame)
    for column, why in left_out.items():
        notes[""].append(f"Left out: {column[:64]!r}, {why}.")
    for column in filter(None, (time, known)):
        if column not in usable or not isinstance(frame.schema[column], pl.Datetime):
            seen = str(frame.schema[column]) if column in frame.schema else "no such column"
            raise InvalidInput(f"{column!r} should be a time, and is: {seen}.", "name a column of times with --time and --known.")
    key = _key([frame[column] for column in usable], time)
    columns, checks = [], []
    for column in usable:
        described, rules, said = _column(frame[column], in_key=column in key)
        columns.append(described)
        checks += rules
        if said:
            notes.setdefault(column, []).extend(said)
    checks += _order(frame, time, known)
    if not key:
        notes[""].append("No key was found: without one, no row can be told from its repetition.")
    else:
        notes[""].append(f"The key is a guess: no two rows share {', '.join(key)}.")
    sensitive = any(column.classification for column in columns)
    contract = Contract(
        name=name,
        version="0.1.0",
        owner=owner,
        columns=tuple(columns),
        checks=tuple(checks),
        key=key,
        labels={"classification": "confidential" if sensitive else "internal"},
        status="draft",
    )
    return Inferred(contract, {column: tuple(said) for column, said in notes.items()})


def _usable(frame: pl.DataFrame) -> tuple[list[str], dict[str, str]]:
    """The columns that a contract can name, and why it cannot name the others."""
    left_out = {}
    for name, dtype in frame.schema.items():
        if guess.kind_of(dtype) is None:
            left_out[name] = f"a {dtype} is no column of a contract"
        elif name.startswith("_") or not name.strip() or len(name) > 64:
            left_out[name] = "its name starts with _, is empty or has more than 64 characters"
    usable = [name for name in frame.columns if name not in left_out]
    if not 1 <= len(usable) <= MOST_COLUMNS:
        raise InvalidInput(
            f"A contract has 1 to {MOST_COLUMNS} columns; this data has {len(usable):,} that it could name.",
            "choose the columns that somebody uses.",
        )
    return usable, dict(list(left_out.items())[:20])


def _column(series: pl.Series, *, in_key: bool) -> tuple[Column, list[Quality], list[str]]:
    kind = guess.kind_of(series.dtype) or "string"
    there, notes = series.drop_nulls(), []
    pattern, form, rules = "", "", []
    if series.dtype == pl.Null:
        notes.append("Nothing but nulls: the type is a guess.")
    if kind == "string":
        texts = there.cast(pl.String)
        form, pattern = guess.form_of(texts)
        listed = None if in_key or pattern else guess.values_of(texts)
        if listed is not None:
            rules.append(Quality(f"{series.name} is one of {len(listed)}"[:120], "invalidValues", (series.name,), values=listed))
        elif not pattern and len(there) >= FEW:
            form, pattern = guess.shape_of(texts)
    is_naive = isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is None
    if is_naive:
        notes.append("These times have no zone. They are read as UTC: is that where their clock stood?")
    limits, said = guess.range_of(series, kind, is_name=in_key)
    spoken = form if form in personal.FORMS else personal.spoken_of(series.name)
    if spoken:
        notes.append(f"Looks like personal data ({spoken}). Who may see it, and for what?")
    if form and form not in personal.FORMS:
        notes.append(f"Every value looks like {form}.")
    column = Column(
        name=series.name,
        kind=kind,
        required=in_key or (bool(len(series)) and not series.null_count()),
        width=_WIDTHS.get(type(series.dtype), ""),
        limits=limits,
        pattern=pattern,
        naive_is_utc=is_naive,
        classification="confidential" if spoken else "",
    )
    return column, rules, notes + said


def _key(columns: Sequence[pl.Series], time: str) -> tuple[str, ...]:
    """One column, else two, in which no two rows are alike. A number with a fraction measures and names nothing."""
    fit = [s for s in columns if len(s) and not s.null_count() and s.dtype != pl.Boolean and not _is_fraction(s.dtype)]
    names = [s for s in fit if s.dtype.is_integer() or guess.kind_of(s.dtype) == "string"]
    for series in sorted(names, key=lambda s: (not guess.is_name(s.name), s.dtype.is_integer())):
        if (guess.is_name(series.name) or not series.dtype.is_integer()) and series.n_unique() == len(series):
            return (series.name,)
    times = [s for s in fit if isinstance(s.dtype, (pl.Datetime, pl.Date))]
    ordered = [*(s for s in times if s.name == time), *(s for s in times if s.name != time)]
    pairs = [(name, at) for at in ordered[:3] for name in names[:_MOST_PAIRS]] + list(combinations(names[: _MOST_PAIRS // 2], 2))
    for one, other in pairs:
        # Pairs of a name and the time that something happened say what a row is about; others may be chance.
        if pl.DataFrame([one, other]).n_unique() == len(one):
            return (one.name, other.name)
    return ()


def _is_fraction(dtype: pl.DataType) -> bool:
    return dtype.is_float() or dtype.is_decimal()


def _order(frame: pl.DataFrame, time: str, known: str) -> list[Quality]:
    """What happened is known afterwards, where the data say so."""
    if not (time and known and time != known and time.isidentifier() and known.isidentifier()):
        return []
    text = f"{known} >= {time}"
    zones = {dtype.time_zone for dtype in (frame.schema[time], frame.schema[known]) if isinstance(dtype, pl.Datetime)}
    as_kept = [
        pl.col(column).dt.replace_time_zone("UTC") if None in zones and _zone(frame, column) is None else pl.col(column)
        for column in (known, time)
    ]
    early = frame.select((as_kept[0].dt.cast_time_unit("ms") < as_kept[1].dt.cast_time_unit("ms")).sum()).item()
    if early:
        return []
    try:
        node = expression.read(text, {time: "timestamp", known: "timestamp"})
    except InvalidInput:
        return []  # a name that Python keeps for itself
    return [Quality("known after it happened", "expression", expression=node, text=text)]


def _zone(frame: pl.DataFrame, column: str) -> str | None:
    dtype = frame.schema[column]
    return dtype.time_zone if isinstance(dtype, pl.Datetime) else None
