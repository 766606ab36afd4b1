"""The point-in-time join of tables that do not fit into memory: dealt out by entity to files, and joined share by share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import Conflict, InvalidInput, Unavailable
from falaj.stages.features.join import Side, Spine, added_columns

Table: TypeAlias = pl.DataFrame | pl.LazyFrame
_ROW, _SHARE = "__row", "__share"
_TEXT, _WIDE = 40, 8
"""Bytes that a text and any other value take, near enough."""
_AT_ONCE = 6
"""A share of this part of the memory leaves room for what its join makes beside it, and for what the reader holds ahead."""
_MOST_SHARES = 512
_LEAST_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes a join may hold at once, beside the interpreter's own, and the folder for what it lays aside."""

    memory: int
    folder: Path


def estimated(table: Table) -> int:
    """About how many bytes the table takes in memory. A LazyFrame over Parquet is counted, not read."""
    rows = table.height if isinstance(table, pl.DataFrame) else table.select(pl.len()).collect().item()
    return int(rows) * _width(table.collect_schema())


def join_large(spine: Table, time: str, sides: Sequence[Side], *, to: Path, room: Room) -> Path:
    """`join_views` in bounded memory. The answer is the folder `to`: Parquet files whose names are in the spine's order.

    The spine and every table are read batch by batch and dealt out by entity to private files in `room.folder`; each share
    is joined by the same code as in memory, and the answers are put back into the spine's order. The files are removed,
    after an error too, and `to` appears when it is whole. Tables are read twice and must answer the same each time.

    Raises Conflict where `to` exists, Unavailable where the disk is full, else what `join_views` raises.
    """
    if to.exists():
        raise Conflict(f"{to} exists already.", "name a folder that does not.")
    added = added_columns(spine.collect_schema().names(), sides)
    width = _width(spine.collect_schema()) + sum(_width(side.rows.collect_schema()) for side in sides)
    plan = _Plan(time, room, max(room.memory // (_AT_ONCE * width), _LEAST_ROWS))
    lot = plan.lot
    with _laid_aside(room) as folder:
        asked = []
        for number, side in enumerate(sides):
            count = -(-estimated(side.rows) * _AT_ONCE // room.memory) or 1
            columns = {**_of(spine, [side.key or side.entity, time]), _ROW: pl.Int64()}
            asked.append(Shares(folder / f"asked_{number}", min(_MOST_SHARES, count), pl.Schema(columns)))
        height = _deal_spine(spine, plan, sides, asked)
        answers = []
        for number, (side, names) in enumerate(zip(sides, added, strict=True)):
            columns = {**_of(side.rows, names), _ROW: pl.Int64()}
            answers.append(Shares(folder / f"answer_{number}", -(-height // lot) or 1, pl.Schema(columns)))
            _join_side(side, plan, asked[number], answers[number])
        made = folder / "made"
        made.mkdir()
        for number in range(-(-height // lot) or 1):
            part = spine.slice(number * lot, lot)
            parts = [part.collect() if isinstance(part, pl.LazyFrame) else part]
            for answer, names in zip(answers, added, strict=True):
                if names:
                    parts.append(answer.take(number).sort(_ROW).select(names))
            _put(pl.concat(parts, how="horizontal"), made / f"part-{number:06}.parquet", "zstd")
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(made, to)
        except OSError as exc:
            shutil.rmtree(to, ignore_errors=True)
            raise _no_room(to, exc) from exc
    return to


@dataclass(frozen=True, slots=True)
class _Plan:
    """`lot`: how many rows of the spine are put together at once."""

    time: str
    room: Room
    lot: int


def _deal_spine(spine: Table, plan: _Plan, sides: Sequence[Side], asked: Sequence[Shares]) -> int:
    """Deals out the spine once for each side, with the numbers of its rows; how many there are."""
    seen = 0
    for batch in batches(spine, plan.room):
        rows = pl.int_range(seen, seen + batch.height, dtype=pl.Int64, eager=True).alias(_ROW)
        for side, shares in zip(sides, asked, strict=True):
            key = side.key or side.entity
            shares.add(batch.select([*dict.fromkeys((key, plan.time))]).with_columns(rows), pl.col(key))
        seen += batch.height
    return seen


def _join_side(side: Side, plan: _Plan, asked: Shares, answers: Shares) -> None:
    """Joins one table share by share, and lays its answers aside by the part of the spine that they belong to."""
    held = Shares(asked.folder.with_name(f"held_{asked.folder.name}"), asked.count, side.rows.collect_schema())
    for batch in batches(side.rows, plan.room):
        held.add(batch, pl.col(side.entity))
    for number in range(asked.count):
        spine = asked.take(number)
        rows = held.take(number)
        places = Spine(spine, plan.time).places(rows, side)
        answer = places.brought(rows, [name for name in rows.columns if name != side.entity]).with_columns(spine[_ROW])
        answers.add(answer, pl.col(_ROW) // plan.lot, is_share=True)


class Shares:
    """A table dealt out to files; the rows of a share keep their order, and rows of one key are in one share."""

    def __init__(self, folder: Path, count: int, columns: pl.Schema) -> None:
        self.folder = folder
        self.count = count
        self._nothing = columns.to_frame()
        self._files: dict[int, list[Path]] = {}
        folder.mkdir()

    def add(self, batch: pl.DataFrame, key: pl.Expr, *, is_share: bool = False) -> None:
        # As text, so that a number and the text of it fall into one share.
        share = key if is_share else key.cast(pl.String).hash(seed=0) % self.count
        parts = batch.with_columns(share.cast(pl.Int64).alias(_SHARE)).partition_by(
            _SHARE, include_key=False, as_dict=True, maintain_order=True
        )
        for (number,), part in parts.items():
            files = self._files.setdefault(int(number), [])
            files.append(self.folder / f"{number}-{len(files)}.parquet")
            _put(part, files[-1], "lz4")

    def take(self, number: int) -> pl.DataFrame:
        """A share, which is gone from the disk then."""
        files = self._files.pop(number, [])
        found = pl.concat([self._nothing, *(pl.read_parquet(file, memory_map=False) for file in files)])
        for file in files:
            file.unlink()
        return found


def batches(table: Table, room: Room) -> Iterator[pl.DataFrame]:
    """The table in order, as many rows at a time as the room allows."""
    rows = max(room.memory // (2 * _AT_ONCE * _width(table.collect_schema())), _LEAST_ROWS)
    if isinstance(table, pl.DataFrame):
        yield from table.iter_slices(rows)
    else:
        yield from table.collect_batches(chunk_size=rows, maintain_order=True, lazy=True, engine="streaming")


@dataclass(frozen=True, slots=True)
class Share:
    """Rows of a table, and the places in the spine of those who ask for their entities; None is the whole spine."""

    rows: pl.DataFrame
    places: NDArray[np.int64] | None = None


def shares(table: Table, entity: str, keys: pl.Series, room: Room | None) -> Iterator[Share]:
    """The table in shares that fit the room, each with the places of the spine that need it; `keys` are the spine's entities."""
    if room is None or isinstance(table, pl.DataFrame) or (size := estimated(table)) * _AT_ONCE // 2 <= room.memory:
        yield Share(table.collect() if isinstance(table, pl.LazyFrame) else table)
        return
    count = min(_MOST_SHARES, -(-size * _AT_ONCE // room.memory))
    with _laid_aside(room) as folder:
        held = Shares(folder / "held", count, table.collect_schema())
        for batch in batches(table, room):
            held.add(batch, pl.col(entity))
        wanted = (keys.cast(pl.String).hash(seed=0) % count).to_numpy()
        for number in range(count):
            rows = held.take(number)
            places = np.flatnonzero(wanted == number)
            yield Share(rows, places)


@contextmanager
def _laid_aside(room: Room) -> Iterator[Path]:
    """A folder that only this user can read, gone afterwards."""
    if room.memory < 1:
        raise InvalidInput(f"A join cannot hold {room.memory} bytes.", "set `memory` to something like 2GB.")
    try:
        room.folder.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix="join-", dir=room.folder)
    except OSError as exc:
        raise _no_room(room.folder, exc) from exc
    with aside as folder:
        yield Path(folder)


def _put(frame: pl.DataFrame, path: Path, compression: Literal["lz4", "zstd"]) -> None:
    try:
        frame.write_parquet(path, compression=compression)
    except (OSError, pl.exceptions.ComputeError) as exc:  # the rows are in memory already: only the disk can fail
        raise _no_room(path.parent, exc) from exc


def _no_room(place: Path, exc: Exception) -> Unavailable:
    why = (str(exc).splitlines() or [""])[0][:200]
    return Unavailable(
        f"The join could not lay rows aside in {place}: {why}.", "free space there, or let it hold more in memory."
    )


def _of(table: Table, names: Sequence[str]) -> dict[str, pl.DataType]:
    """Types of the columns, of those that are there: what is missing is told by the join."""
    schema = table.collect_schema()
    return {name: schema[name] for name in names if name in schema}


def _width(schema: pl.Schema) -> int:
    return sum(_TEXT if kind in (pl.String, pl.Binary) or kind.is_nested() else _WIDE for kind in schema.dtypes()) or _WIDE
