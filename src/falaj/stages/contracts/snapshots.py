"""Snapshots: immutable Parquet files, written once and read back only when their digest still holds."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import canonical, decode, encode
from falaj.core.errors import Conflict, FalajError
from falaj.core.moments import moment
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger
from falaj.stages.contracts import sealed
from falaj.stages.contracts.profile import merge, profile
from falaj.stages.contracts.rows import instant
from falaj.stages.contracts.sealed import SEALED, Sealing, Vaults

CACHE_BYTES = 24 << 20
"""The newest few months of a table of this size; the rest is read from disk again."""
PART_ROWS = 1_000_000
PART_BYTES = 128 << 20
"""A table beyond one of the two is written, and judged, in parts."""
MOST_GETS = 8
"""Records are read one by one up to so many, else all of a dataset at once."""
FORM = "falaj.snapshot/1"
_HEAD_ROWS = 10_000
_Spans = Sequence[tuple[str, str]]


def parquet(frame: pl.DataFrame) -> bytes:
    """The frame as Parquet; the same rows in the same order give the same bytes."""
    out = io.BytesIO()
    frame.rechunk().write_parquet(out, compression="zstd", compression_level=3, row_group_size=65_536)
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet blob of a snapshot. `spans`: `time_first` and the like, as the asset's labels have them for the whole."""

    digest: str
    rows: int
    spans: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A snapshot's bytes, kept. One part: `digest` is the Parquet file's; several: that of a list of them, in JSON."""

    digest: str
    rows: int
    parts: int
    columns: Mapping[str, str]
    spans: Mapping[str, Any]
    profile: Mapping[str, Any]
    sealed: Mapping[str, Any] | None = None
    """Whose column says whose row it is, and which columns are sealed by it; None where no row is about anybody."""

    @property
    def labels(self) -> dict[str, Any]:
        found = {"rows": self.rows, "columns": dict(self.columns), **self.spans, **self.form}
        return found if self.parts == 1 else {**found, "parts": self.parts}

    @property
    def form(self) -> dict[str, Any]:
        return {sealed.LABEL: dict(self.sealed)} if self.sealed else {}


class Snapshots:
    """The frames behind dataset and quarantine assets, with the newest kept in memory."""

    def __init__(self, ledger: Ledger, blobs: Blobs, cache_bytes: int = CACHE_BYTES, vaults: Vaults | None = None) -> None:
        """`vaults`: opens the vault; needed as soon as a row is about somebody."""
        self.ledger = ledger
        self.blobs = blobs
        self.vaults = vaults
        self._room = cache_bytes
        self._assets: dict[str, Asset | None] = {}
        self._held: OrderedDict[str, tuple[pl.DataFrame, int | None]] = OrderedDict()
        """With each frame that was sealed the vault's generation when it was opened; None beside one that was not."""
        self._lock = Lock()

    def assets(self, kind: str, name: str, upto: int) -> list[Asset]:
        """Every asset of that name, by version, up to the head: what no head names was never committed.

        Without those that retention removed, by whatever process: their rows are gone, their records stay.
        """
        keys = [f"{kind}/{name}@{version}" for version in range(1, upto + 1)]
        unread = [key for key in keys if key not in self._assets]
        if len(unread) > MOST_GETS:
            there = dict(self.ledger.find("asset", prefix=f"{kind}/{name}@"))
            bodies = {key: there.get(key) for key in unread}
        else:
            bodies = {key: self.ledger.get("asset", key) for key in unread}
        # Up to the head nothing is added and nothing changes: what was read once need not be read again.
        self._assets.update({key: None if body is None else decode(Asset, body) for key, body in bodies.items()})
        gone = {key for key, _ in self.ledger.find("expired", prefix=f"{kind}/{name}@")}
        return [asset for asset in map(self._assets.get, keys) if asset is not None and str(asset.ref) not in gone]

    def write(
        self,
        frames: Iterable[pl.DataFrame],
        spans: _Spans = (),
        like: Mapping[str, Any] | None = None,
        *,
        is_profiled: bool = True,
        by: Sealing | None = None,
    ) -> Written:
        """Keeps the frames, at least one, as one snapshot. Nothing shows it before an asset names it.

        `like`: the profile whose bins are kept. Without one, those of the first part count. `by`: how rows are sealed; what
        is sealed is not profiled either. Raises Denied where somebody in them was erased.
        """
        parts: list[Part] = []
        seen: dict[str, Any] | None = None
        columns: dict[str, str] = {}
        hidden: list[str] = []
        for frame in frames:
            hidden = by.columns(frame) if by is not None else []
            digest = self.blobs.put(parquet(self._sealed(frame, by) if by is not None else frame))
            parts.append(Part(digest, frame.height, encode(span(frame, spans))))
            if is_profiled:
                one = profile(frame, seen or like, hidden=hidden)
                seen = one if seen is None else merge(seen, one)
            columns = columns or {name: str(dtype) for name, dtype in frame.schema.items()}
        whole = _spans_of(parts, [prefix for prefix, _ in spans])
        rows = sum(part.rows for part in parts)
        digest = parts[0].digest
        if len(parts) > 1:
            body = {"form": FORM, "rows": rows, "columns": columns, "parts": encode(parts)}
            digest = self.blobs.put(canonical(body))
        told = {"subject": by.subject, "columns": hidden} if by is not None else None
        return Written(digest, rows, len(parts), columns, whole, seen or {}, told)

    def parts(self, asset: Asset) -> list[Part]:
        """The Parquet files of one asset, in order. Raises NotFound, or Conflict where the list of them is none."""
        if "parts" not in asset.labels:
            return [Part(asset.digest, int(asset.labels.get("rows", -1)), asset.labels)]
        try:
            body = json.loads(self.blobs.get(asset.digest))
            if body["form"] != FORM or sum(part["rows"] for part in body["parts"]) != asset.labels.get("rows"):
                raise ValueError(body["form"])
            return [decode(Part, part) for part in body["parts"]]
        except (ValueError, KeyError, TypeError) as exc:
            raise Conflict(f"{asset.ref} is no readable list of parts.", "restore the blob from a backup.") from exc

    def frame(self, asset: Asset) -> pl.DataFrame:
        """The rows of one asset. Raises NotFound where a file is gone, Conflict where it is not what was written."""
        return union([self._read(asset, part) for part in self.parts(asset)])

    def frames(
        self, asset: Asset, by: str, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[pl.DataFrame]:
        """The parts that can hold rows of (since, until], one at a time."""
        for part in self._covering(asset, by, since, until):
            yield self._read(asset, part)

    def scan(
        self, asset: Asset, by: str = "time", since: datetime | None = None, until: datetime | None = None
    ) -> list[pl.LazyFrame]:
        """The same parts unread. Their digests are checked now; they are read when the query runs."""
        paths = [self.blobs.path(part.digest) for part in self._covering(asset, by, since, until)]
        if sealed.LABEL not in asset.labels:
            return [pl.scan_parquet(path) for path in paths]
        hidden = frozenset(asset.labels[sealed.LABEL]["columns"])
        return [sealed.scan(self.vaults, path, _about(asset), hidden) for path in paths]

    def _covering(self, asset: Asset, by: str, since: datetime | None, until: datetime | None) -> list[Part]:
        found = self.parts(asset)
        if len(found) == 1 or (since is None and until is None):
            return found
        return [part for part in found if _covers(part.spans, by, since, until)]

    def _read(self, asset: Asset, part: Part) -> pl.DataFrame:
        with self._lock:
            held = self._held.get(part.digest)
            if held is not None and self._is_open(held[1]):
                self._held.move_to_end(part.digest)
                return held[0]
        try:
            frame = pl.read_parquet(io.BytesIO(self.blobs.get(part.digest)))
        except FalajError:
            raise
        except (pl.exceptions.PolarsError, OSError, ValueError) as exc:
            why = (str(exc).splitlines() or [""])[0][:200]
            raise Conflict(f"{asset.ref} is no readable Parquet file: {why}.", "restore the blob from a backup.") from exc
        if part.rows not in (-1, frame.height):
            raise Conflict(f"{asset.ref} holds {frame.height} rows, its record says {part.rows}.", "falaj audit verify")
        frame, generation = self._unsealed(asset, frame)
        if part.digest == asset.digest or frame.estimated_size() <= self._room:  # one of many parts may be larger than all else
            self._hold(part.digest, frame, generation)
        return frame

    def _sealed(self, frame: pl.DataFrame, by: Sealing) -> pl.DataFrame:
        return sealed.seal(sealed.vault_of(self.vaults, by.about), frame, by)

    def _unsealed(self, asset: Asset, frame: pl.DataFrame) -> tuple[pl.DataFrame, int | None]:
        """Of erased people a snapshot has rows without what was personal; quarantine, all of which is sealed, has none."""
        if SEALED not in frame.columns:
            return frame, None
        generation = sealed.vault_of(self.vaults, _about(asset)).generation()  # before: what changes later is seen
        return sealed.unseal(self.vaults, frame, _about(asset), keep=asset.ref.kind != "quarantine"), generation

    def _is_open(self, seen: int | None) -> bool:
        """Whether what was opened may still be handed out: not once anybody was erased since."""
        return seen is None or (self.vaults is not None and self.vaults().generation() == seen)

    def _hold(self, digest: str, frame: pl.DataFrame, generation: int | None) -> None:
        with self._lock:
            self._held[digest] = frame, generation
            while len(self._held) > 1 and sum(held.estimated_size() for held, _ in self._held.values()) > self._room:
                self._held.popitem(last=False)


def _about(asset: Asset) -> str:
    return f"{asset.ref.kind}|{asset.ref.name}"


def covers(asset: Asset, column_span: str, since: datetime | None, until: datetime | None) -> bool:
    """Whether the asset can hold rows of (since, until] by the labels `<column_span>_first` and `<column_span>_last`."""
    return _covers(asset.labels, column_span, since, until)


def _covers(spans: Mapping[str, Any], prefix: str, since: datetime | None, until: datetime | None) -> bool:
    first, last = spans.get(f"{prefix}_first"), spans.get(f"{prefix}_last")
    if first is None or last is None:
        return False
    return (since is None or moment(last) > since) and (until is None or moment(first) <= until)


def within(frame: pl.DataFrame, column: str, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    """The rows whose time is in (since, until]. A null time is in no period, unless the period is everything."""
    if since is not None:
        frame = frame.filter(pl.col(column) > instant(since))
    return frame.filter(pl.col(column) <= instant(until)) if until is not None else frame


def union(frames: Sequence[pl.DataFrame], schema: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """All rows, in order. Snapshots under an older contract may lack columns: they are null there."""
    full = [frame for frame in frames if frame.height] or list(frames[-1:])
    return pl.concat(full, how="diagonal_relaxed") if full else pl.DataFrame(schema=dict(schema or {}))


def span(frame: pl.DataFrame, columns: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Labels `<prefix>_first` and `<prefix>_last` of each (prefix, column)."""
    found: dict[str, Any] = {}
    for prefix, column in columns:
        found[f"{prefix}_first"], found[f"{prefix}_last"] = frame[column].min(), frame[column].max()
    return found


def part_rows(head: pl.DataFrame, most: int = PART_ROWS) -> int:
    """How many rows make a part, told by the first rows alone, so that it does not matter how a source cuts its pieces."""
    if not head.height:
        return most
    texts = [name for name, dtype in head.schema.items() if dtype == pl.String]
    length = sum(int(head[name].str.len_bytes().sum()) for name in texts)
    each = 8 * head.width + 8 * len(texts) + length / head.height
    return min(most, max(_HEAD_ROWS, int(PART_BYTES / each)))


def recut(frames: Iterable[pl.DataFrame], most: int = PART_ROWS) -> Iterator[pl.DataFrame]:
    """The same rows in parts of equal size, as `part_rows` says, and a last one of what is left. Nothing gives nothing."""
    held: list[pl.DataFrame] = []
    count = rows = 0
    for frame in frames:
        held.append(frame)
        count += frame.height
        if not rows and count >= min(_HEAD_ROWS, most):
            rows = part_rows(pl.concat(held).head(min(_HEAD_ROWS, most)), most)
        if not rows or count <= rows:
            continue
        whole = pl.concat(held)
        full = (count - 1) // rows * rows  # the last part is never empty
        for start in range(0, full, rows):
            yield whole.slice(start, rows)
        held, count = [whole.slice(full)], count - full
    if held:
        yield pl.concat(held)


def sampled(frames: Iterable[pl.DataFrame], rows: int = PART_ROWS) -> pl.DataFrame:
    """Every k-th row, about as many as one part has: enough to find the bins of a profile in."""
    found: pl.DataFrame | None = None
    start, step = 0, 1
    for frame in frames:
        own = frame.slice(-start % step).gather_every(step)
        start += frame.height
        found = own if found is None else pl.concat([found, own])
        while found.height > max(rows, 1):
            step *= 2
            found = found.gather_every(2)
    return found if found is not None else pl.DataFrame()


def _spans_of(parts: Sequence[Part], prefixes: Iterable[str]) -> dict[str, Any]:
    """From the first of the firsts to the last of the lasts: as texts of one form they sort as times do."""
    found: dict[str, Any] = {}
    for prefix in prefixes:
        firsts = [part.spans[f"{prefix}_first"] for part in parts if part.spans[f"{prefix}_first"] is not None]
        lasts = [part.spans[f"{prefix}_last"] for part in parts if part.spans[f"{prefix}_last"] is not None]
        found[f"{prefix}_first"], found[f"{prefix}_last"] = min(firsts, default=None), max(lasts, default=None)
    return found
