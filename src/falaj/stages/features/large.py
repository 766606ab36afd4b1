"""The point-in-time join of tables that do not fit into memory: dealt out by entity to files, and joined share by share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import Conflict, InvalidInput, Unavailable
from falaj.stages.contracts.drafts import Draft
from falaj.stages.features.join import Places, Side, Spine, added_columns, as_text, check_columns

Table: TypeAlias = pl.DataFrame | pl.LazyFrame
ShareOf: TypeAlias = Callable[[pl.Series], NDArray[np.uint16]]
"""Entities → the share that the rows of each are in."""
_ROW = "__row"
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
    after an error too, and `to` appears when it is whole. A table is counted and then read once. The rows of one entity
    are in one share: they must fit.

    Raises Conflict where `to` exists, Unavailable where the disk is full, else what `join_views` raises.
    """
    if to.exists():
        raise Conflict(f"{to} exists already.", "name a folder that does not.")
    columns = spine.collect_schema()
    added = added_columns(columns.names(), sides)
    width = _width(columns) + sum(_width(side.rows.collect_schema()) for side in sides)
    lot = max(room.memory // (_AT_ONCE * width), _LEAST_ROWS)
    with _laid_aside(room) as folder:
        parts = Shares(folder / "spine", columns)
        asked = [_Asked.of(columns, time, side, folder / f"asked_{n}", room) for n, side in enumerate(sides)]
        height = 0
        for batch in batches(spine, room):
            rows = pl.int_range(height, height + batch.height, dtype=pl.Int64, eager=True).alias(_ROW)
            for one in asked:
                one.add(batch, rows)
            parts.add(batch, (rows // lot).to_numpy())
            height += batch.height
        answers = [one.joined(room, folder / f"answer_{n}", lot) for n, one in enumerate(asked)]
        made = folder / "made"
        made.mkdir()
        for number in range(-(-height // lot) or 1):
            part = parts.take(number)
            found = [_in_place(a.take(number), names, number * lot, part.height) for a, names in zip(answers, added, strict=True)]
            _put(pl.concat([part, *found], how="horizontal"), made / f"part-{number:06}.parquet")
            del part, found
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(made, to)
        except OSError as exc:
            shutil.rmtree(to, ignore_errors=True)
            raise _no_room(to, exc) from exc
    return to


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asks one table, dealt out by entity: the entity, the time and the number of each row of the spine that has both."""

    side: Side
    time: str
    as_text: bool
    count: int
    shares: Shares

    @classmethod
    def of(cls, columns: pl.Schema, time: str, side: Side, folder: Path, room: Room) -> _Asked:
        held = side.rows.collect_schema()
        check_columns(columns, [side.key or side.entity, time])
        check_columns(held, [side.entity, side.time])
        key = side.key or side.entity
        count = min(_MOST_SHARES, -(-estimated(side.rows) * _AT_ONCE // room.memory) or 1)
        kinds = {name: columns[name] for name in (key, time)}
        shares = Shares(folder, pl.Schema({**kinds, _ROW: pl.Int64()}))
        return cls(side, time, as_text(columns[key], held[side.entity]), count, shares)

    def add(self, batch: pl.DataFrame, rows: pl.Series) -> None:
        key = self.side.key or self.side.entity
        asks = batch.select([*dict.fromkeys((key, self.time))]).with_columns(rows).drop_nulls()
        self.shares.add(asks, self._share(asks[key]))

    def _share(self, keys: pl.Series) -> NDArray[np.uint16]:
        return share_of(keys, self.as_text, self.count)

    def joined(self, room: Room, folder: Path, lot: int) -> Shares:
        """The answers, by the `lot` rows of the spine that they belong to."""
        side, columns = self.side, self.side.rows.collect_schema()
        held = dealt(side.rows, side.entity, folder.with_name(f"held_{folder.name}"), room, self._share)
        names = [name for name in columns.names() if name != side.entity]
        answers = Shares(folder, pl.Schema({**{name: columns[name] for name in names}, _ROW: pl.Int64()}))
        for number in range(self.count):
            spine, rows = self.shares.take(number), held.take(number)
            answer = Spine(spine, self.time).places(rows, side).brought(rows, names).with_columns(spine[_ROW])
            del rows
            answers.add(answer, (spine[_ROW] // lot).to_numpy())
        return answers


def _in_place(answer: pl.DataFrame, names: Sequence[str], start: int, height: int) -> pl.DataFrame:
    """The answers of the rows from `start` on, in the spine's order, nulls where a row asked nothing."""
    at, hit = np.zeros(height, np.uint32), np.zeros(height, np.bool_)
    rows = answer[_ROW].to_numpy() - start
    at[rows], hit[rows] = np.arange(len(rows), dtype=np.uint32), True
    return Places(pl.Series(at), pl.Series(hit)).brought(answer, names)


class Shares:
    """A table dealt out to files, one a share; the rows of a share keep their order.

    What is laid aside is written as it lies in memory: it is read once and soon, and to pack it would cost more.
    """

    def __init__(self, folder: Path, columns: pl.Schema) -> None:
        self._folder = folder
        self._nothing = columns.to_frame()
        self._pieces: dict[int, list[int]] = {}
        folder.mkdir()

    def add(self, batch: pl.DataFrame, share: NDArray[np.integer[Any]]) -> None:
        """Takes rows; `share` has the number of each one's share."""
        if batch.is_empty():
            return
        first = int(share.min())
        share = share - first
        ends = np.cumsum(np.bincount(share))
        if len(ends) > 1:
            # numpy sorts 16-bit numbers without comparing them.
            order = pl.Series(np.argsort(share.astype(np.uint16 if len(ends) <= 1 << 16 else np.int64), kind="stable"))
            batch = pl.DataFrame([column.rechunk().gather(order) for column in batch])
        for number in np.flatnonzero(np.diff(ends, prepend=0)).tolist():
            start = int(ends[number - 1]) if number else 0
            self._append(first + number, batch[start : int(ends[number])])

    def _append(self, number: int, part: pl.DataFrame) -> None:
        piece = BytesIO()
        part.write_ipc_stream(piece)
        try:
            with (self._folder / str(number)).open("ab") as file:
                file.write(piece.getbuffer())
        except OSError as exc:
            raise _no_room(self._folder, exc) from exc
        self._pieces.setdefault(number, []).append(piece.tell())

    def take(self, number: int) -> pl.DataFrame:
        """A share, which is gone from the disk then."""
        pieces = self._pieces.pop(number, None)
        if pieces is None:
            return self._nothing
        path = self._folder / str(number)
        with path.open("rb") as file:
            found = pl.concat([pl.read_ipc_stream(BytesIO(file.read(size))) for size in pieces])
        path.unlink()
        return found


def dealt(table: Table, entity: str, folder: Path, room: Room, share: ShareOf) -> Shares:
    """The rows of a table that have an entity, in so many shares."""
    held = Shares(folder, table.collect_schema())
    for batch in batches(table, room):
        known = batch.filter(pl.col(entity).is_not_null())
        held.add(known, share(known[entity]))
    return held


def share_of(keys: pl.Series, is_text: bool, count: int) -> NDArray[np.uint16]:
    """The share that each entity's rows are in."""
    return ((keys.cast(pl.String) if is_text else keys).hash(seed=0) % count).cast(pl.UInt16).to_numpy()


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
        is_text = as_text(keys.dtype, table.collect_schema()[entity])
        share = partial(share_of, is_text=is_text, count=count)
        held = dealt(table, entity, folder / "held", room, share)
        wanted = share(keys)
        for number in range(count):
            rows = held.take(number)
            places = np.flatnonzero(wanted == number)
            yield Share(rows, places)


@contextmanager
def _laid_aside(room: Room) -> Iterator[Path]:
    """A folder that only this user can read, gone afterwards; what a killed process leaves is told by its lock, and swept."""
    if room.memory < 1:
        raise InvalidInput(f"A join cannot hold {room.memory} bytes.", "set `memory` to something like 2GB.")
    try:
        draft = Draft(room.folder)
        folder = draft.path
    except Unavailable as exc:
        raise _no_room(room.folder, exc.__cause__ or exc) from exc
    try:
        yield folder
    finally:
        draft.close()


def _put(frame: pl.DataFrame, path: Path) -> None:
    try:
        frame.write_parquet(path)
    except (OSError, pl.exceptions.ComputeError) as exc:  # the rows are in memory already: only the disk can fail
        raise _no_room(path.parent, exc) from exc


def _no_room(place: Path, exc: BaseException) -> Unavailable:
    why = (str(exc).splitlines() or [""])[0][:200]
    return Unavailable(
        f"The join could not lay rows aside in {place}: {why}.", "free space there, or let it hold more in memory."
    )


def _width(schema: pl.Schema) -> int:
    return sum(_TEXT if kind in (pl.String, pl.Binary) or kind.is_nested() else _WIDE for kind in schema.dtypes()) or _WIDE
