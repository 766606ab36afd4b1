"""Snapshots: immutable Parquet files, written once and read back only when their digest still holds."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.errors import Conflict, FalajError
from falaj.core.moments import moment
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger

CACHE_BYTES = 24 << 20
"""The newest few months of a table of this size; the rest is read from disk again."""


def parquet(frame: pl.DataFrame) -> bytes:
    """The frame as Parquet; the same rows in the same order give the same bytes."""
    out = io.BytesIO()
    frame.rechunk().write_parquet(out, compression="zstd", compression_level=3, row_group_size=65_536)
    return out.getvalue()


class Snapshots:
    """The frames behind dataset and quarantine assets, with the newest kept in memory."""

    def __init__(self, ledger: Ledger, blobs: Blobs, cache_bytes: int = CACHE_BYTES) -> None:
        self.ledger = ledger
        self.blobs = blobs
        self._room = cache_bytes
        self._held: OrderedDict[str, pl.DataFrame] = OrderedDict()
        self._lock = Lock()

    def assets(self, kind: str, name: str, upto: int) -> list[Asset]:
        """Every asset of that name, by version, up to the head: what no head names was never committed."""
        found = [decode(Asset, body) for _key, body in self.ledger.find("asset", prefix=f"{kind}/{name}@")]
        found = [asset for asset in found if asset.ref.kind == kind and asset.ref.name == name and _version(asset) <= upto]
        return sorted(found, key=_version)

    def frame(self, asset: Asset) -> pl.DataFrame:
        """The rows of one asset. Raises NotFound where the file is gone, Conflict where it is not what was written."""
        with self._lock:
            held = self._held.get(asset.digest)
            if held is not None:
                self._held.move_to_end(asset.digest)
                return held
        try:
            frame = pl.read_parquet(io.BytesIO(self.blobs.get(asset.digest)))
        except FalajError:
            raise
        except (pl.exceptions.PolarsError, OSError, ValueError) as exc:
            why = (str(exc).splitlines() or [""])[0][:200]
            raise Conflict(f"{asset.ref} is no readable Parquet file: {why}.", "restore the blob from a backup.") from exc
        wanted = asset.labels.get("rows")
        if wanted is not None and frame.height != wanted:
            raise Conflict(f"{asset.ref} holds {frame.height} rows, its record says {wanted}.", "falaj audit verify")
        self._hold(asset.digest, frame)
        return frame

    def _hold(self, digest: str, frame: pl.DataFrame) -> None:
        with self._lock:
            self._held[digest] = frame
            while len(self._held) > 1 and sum(held.estimated_size() for held in self._held.values()) > self._room:
                self._held.popitem(last=False)


def covers(asset: Asset, column_span: str, since: datetime | None, until: datetime | None) -> bool:
    """Whether the asset can hold rows of (since, until] by the labels `<column_span>_first` and `<column_span>_last`."""
    first, last = asset.labels.get(f"{column_span}_first"), asset.labels.get(f"{column_span}_last")
    if first is None or last is None:
        return False
    return (since is None or moment(last) > since) and (until is None or moment(first) <= until)


def within(frame: pl.DataFrame, column: str, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    """The rows whose time is in (since, until]. A null time is in no period, unless the period is everything."""
    if since is not None:
        frame = frame.filter(pl.col(column) > pl.lit(since))
    return frame.filter(pl.col(column) <= pl.lit(until)) if until is not None else frame


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


def _version(asset: Asset) -> int:
    return int(asset.ref.version or 0)
