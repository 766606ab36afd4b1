"""Keeping: what of a judged load is written, and what is said of it in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from falaj.core.codec import canonical
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.head import Head
from falaj.stages.contracts.late import Late
from falaj.stages.contracts.load import Judged
from falaj.stages.contracts.personal import CLASSES
from falaj.stages.contracts.profile import merge, profile
from falaj.stages.contracts.sealed import Admitted, Sealing, sealing
from falaj.stages.contracts.snapshots import Snapshots, Written, recut, sampled
from falaj.stages.contracts.spec import Dataset
from falaj.stages.contracts.versions import Table

Frames = Callable[[], Iterator[pl.DataFrame]]
Profile = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Load:
    """One call of a source, judged."""

    head: Head
    until: datetime
    contract: Contract
    written: bytes
    """The contract file, as it was when the load began: by this the rows were judged."""
    judged: Judged
    origin: Mapping[str, Any]
    inputs: tuple[Ref, ...] = ()
    table: Table | None = None
    """Where the source hands out everything: what is known already."""
    late: Late | None = None
    """Where rows may come late: which did."""
    admitted: Admitted | None = None
    """Where rows are about people: how many of erased ones came again."""
    held: str = ""
    """Why the load has to wait or is refused, where that is for its columns."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a load was written. `is_new`: there is something that was not held before."""

    good: Written
    bad: Written | None
    gone: int = 0
    """Rows that are held and that the source, which hands out everything, did not hand out."""

    @property
    def is_new(self) -> bool:
        return self.good.rows > 0 or self.bad is not None


class Keeping:
    """Writes what came through and what was kept out, in parts of at most `part_rows` rows."""

    def __init__(self, snapshots: Snapshots, blobs: Blobs, part_rows: int) -> None:
        self.snapshots = snapshots
        self.blobs = blobs
        self.part_rows = part_rows

    def keep(self, declared: Dataset, load: Load, like: Profile) -> Kept:
        """The load's rows as blobs. Nothing shows them before an asset names them."""
        judged, table = load.judged, load.table
        good = self.write(declared, load.contract, (lambda: table.fresh(judged.good())) if table else judged.good, like)
        bad: Written | None = None
        if judged.quarantined:
            frames = table.fresh_bad(judged.bad()) if table else judged.bad()
            by = sealing(load.contract, "quarantine", declared.name)
            kept_out = self.snapshots.write(recut(frames, self.part_rows), is_profiled=False, by=by)
            bad = kept_out if kept_out.rows else None
        return Kept(good, bad, table.vanished() if table else 0)

    def write(self, declared: Dataset, contract: Contract, frames: Frames, like: Profile) -> Written:
        """Good rows as a snapshot, with a profile in the bins of `like`, or in those that a sample of its own rows gives."""
        by = sealing(contract, "dataset", declared.name, (declared.time, declared.known))
        if like is None:
            like = self._like(frames, by)
        spans = (("time", declared.time), ("known", declared.known))
        return self.snapshots.write(recut(frames(), self.part_rows), spans, like, by=by)

    def labels(self, load: Load, *, since: datetime | None) -> dict[str, Any]:
        """What the good and the bad rows of a load have in common: who is refused is a patient as well."""
        contract = load.contract
        return {
            **contract.labels,
            **_column_classes(contract),
            "contract": self.blobs.put(load.written),
            "contract_version": contract.version,
            "owner": contract.owner,
            "since": since,
            "until": load.until,
            "origin": dict(load.origin),
        }

    def shape(self, contract: Contract, good: Written) -> dict[str, Any]:
        """What the good rows look like: names and types, the periods they cover, and the digest of their profile."""
        return {
            **good.labels,
            **_column_classes(contract),
            "profile": self.blobs.put(canonical(good.profile)),
        }

    def whole_profile(self, load: Load, good: Written) -> str:
        """The digest of the profile of every good row, where the snapshot holds only what changed: drift is told by this."""
        seen: dict[str, Any] | None = None
        hidden = good.sealed["columns"] if good.sealed else ()
        for frame in load.judged.good():
            one = profile(frame, seen or good.profile, hidden=hidden)
            seen = one if seen is None else merge(seen, one)
        return self.blobs.put(canonical(seen or {}))

    def _like(self, frames: Frames, by: Sealing | None) -> Profile:
        """None where there is one part, whose own rows are all that there is."""
        parts = recut(frames(), self.part_rows)
        first, second = next(parts, None), next(parts, None)
        if first is None or second is None:
            return None
        del first, second
        sample = sampled(frames(), max(self.part_rows // 4, 1))
        return profile(sample, hidden=by.columns(sample) if by else ())  # a quarter of a million rows find deciles well enough


def after(head: Head, load: Load, good: Written) -> Head:
    """Where the dataset stands with the load."""
    newest = {"newest_time": good.spans.get("time_last"), "newest_known": good.spans.get("known_last")}
    later = {
        name: max((at for at in (getattr(head, name), moment(text) if text else None) if at is not None), default=None)
        for name, text in newest.items()
    }
    return replace(
        head, version=head.version + 1, watermark=load.until, known_rows=head.known_rows + good.rows,
        load_version=head.version + 1, load_rows=load.judged.rows, **later,
    )  # fmt: skip


def _column_classes(contract: Contract) -> dict[str, list[str]]:
    """The classes of the columns, those that speak of people first: where there are too many, no law is forgotten."""
    classes = {column.classification for column in contract.columns if column.classification}
    ordered = sorted(classes, key=lambda word: (word.strip().lower() not in CLASSES, word))
    return {"column_classes": sorted(ordered[:20])} if ordered else {}
