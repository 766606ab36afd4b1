"""Datasets as they are shown: where each stands, what was kept out of it, how a load was judged, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import decode, encode
from falaj.core.decision import Decision
from falaj.core.errors import FalajError, NotFound
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.contracts import difference, quarantine, report, sla
from falaj.stages.contracts.alike import aligned
from falaj.stages.contracts.head import RULE, Head
from falaj.stages.contracts.reading import Datasets
from falaj.stages.contracts.rules import REASONS, ROW
from falaj.stages.contracts.snapshots import union
from falaj.stages.contracts.spec import Dataset


class Shown(Datasets):
    """The datasets of a project, looked at. Nothing here changes anything."""

    def look(self, name: str) -> dict[str, Any]:
        """Where the dataset stands: version, watermark, rows, contract, latest decision; and, as it is now, how many rows wait in
        quarantine, how many were mended, and whether the contract's promises are kept."""
        declared, head = self._declared(name), self._head(name)
        good = self.snapshots.assets("dataset", name, head.version)
        bad = self.snapshots.assets("quarantine", name, head.version)
        mended = sum(int(asset.labels.get("rows", 0)) for asset in good if quarantine.MENDS in asset.labels)
        waiting = sum(int(asset.labels.get("rows", 0)) for asset in bad) - mended
        return {
            "dataset": str(declared.ref),
            "version": head.version,
            "watermark": iso(head.watermark) if head.watermark else None,
            "rows": head.known_rows,
            "quarantined": waiting,
            "waiting": waiting,
            "mended": mended,
            "snapshots": [
                {"ref": str(a.ref), "rows": a.labels.get("rows"), "digest": a.digest, "until": a.labels.get("until")}
                for a in good
            ],
            "labels": dict(good[-1].labels) if good else {},
            "decision": self._refusal(declared.ref) or (encode(self._taken(declared.ref, head)) if head.version else None),
            "promises": self._promises(declared, head),
        }

    def _promises(self, declared: Dataset, head: Head) -> Any:
        """None where the contract makes none. A contract that cannot be read promises nothing that could be seen."""
        now = self.kernel.now()
        try:
            kept = sla.kept(declared, self._contract(declared)[1], head, now)
        except FalajError as exc:
            kept = Decision(declared.ref, sla.RULE, "hold", (), at=now, reason=f"not seen: {exc.message}")
        return encode(kept) if kept is not None else None

    def quarantine(self, name: str, *, waiting: bool = False) -> pl.DataFrame:
        """Every row that was kept out, as it came, with `_reasons`, the `_version` of its load and its `_row` there.

        `waiting`: only those that have not been mended since.
        """
        head = self._head(self._declared(name).name)
        frames = [quarantine.rows_of(self.snapshots, asset) for asset in self.snapshots.assets("quarantine", name, head.version)]
        empty = {**self._schema(name), REASONS: pl.List(pl.String), ROW: pl.Int64, "_version": pl.Int64}
        found = union(frames, empty)
        return quarantine.waiting(found, quarantine.mended(self.blobs, self.assets(name))) if waiting else found

    def report(self, dataset: Ref) -> dict[str, Any]:
        """Every check of a load and the rows that broke it: of a version, or of the newest load, let in or not.

        Where no row broke a check, its decision says it all. Raises NotFound where there was no such load.
        """
        declared = self._declared(dataset.name)
        ref = declared.ref.at(dataset.version or str(self._head(dataset.name).version))
        refused = None if dataset.version else self._refusal(declared.ref)
        denied = self.kernel.ledger.get("report", str(declared.ref)) if refused else None
        body = None if refused else self.kernel.ledger.get("asset", str(ref))
        digest = str((denied or (decode(Asset, body).labels if body else {})).get("report", ""))
        if digest:
            return report.read(self.blobs, digest)
        decided = refused or self.kernel.ledger.get("decision", f"{ref}|{RULE}")
        if decided is None:
            raise NotFound(f"There was no load {ref}.", f"falaj dataset show {dataset.name}")
        return report.of(decode(Decision, decided))

    def diff(self, one: Ref, other: Ref, *, state: bool = False) -> dict[str, Any]:
        """What differs from one snapshot to another: columns, rows by the contract's key, and each column's drift.

        `state`: not the two snapshots alone but the dataset as it stood with each, by key the newest row. Without a key whole
        rows are compared. Raises NotFound where there is no such snapshot.
        """
        contract = self.contract(one.name)
        known = self._declared(one.name).known
        sides = [difference.Side(ref, *self._side(ref, state)) for ref in (one, other)]
        return difference.diff(sides[0], sides[1], contract.key, known=known, state=state)

    def pinned(self, asset: Ref) -> list[Ref]:
        """The models and candidates that were made from a snapshot, by whatever way: while one lives, it has to be kept."""
        made = [decode(Asset, body) for _key, body in self.kernel.ledger.find("asset")]
        needed, found = {asset}, set[Ref]()
        while fresh := {each.ref for each in made if each.ref not in needed and needed & set(each.inputs)}:
            needed |= fresh
            found |= {ref for ref in fresh if ref.kind in ("model", "candidate")}
        return sorted(found)

    def _side(self, ref: Ref, state: bool) -> tuple[pl.LazyFrame, Mapping[str, Any]]:
        self._declared(ref.name)
        body = self.kernel.ledger.get("asset", str(ref))
        if body is None or not (ref.version or "").isdecimal():
            raise NotFound(f"There is no snapshot {ref}.", f"falaj dataset show {ref.name}")
        upto = self.snapshots.assets("dataset", ref.name, int(ref.version or 0)) if state else [decode(Asset, body)]
        scans = [(str(each.ref), scan) for each in upto for scan in self.snapshots.scan(each)]
        rows = pl.concat(aligned(scans, self._schema(ref.name)) if state else [s for _, s in scans], how="diagonal_relaxed")
        return rows, self._profile(ref.name, int(ref.version or 0)) or {}

    def _taken(self, dataset: Ref, head: Head) -> Decision | None:
        """The decision that let the newest snapshot in."""
        body = self.kernel.ledger.get("decision", f"{dataset.at(head.version)}|{RULE}") if head.version else None
        return decode(Decision, body) if body is not None else None

    def _refusal(self, dataset: Ref) -> Mapping[str, Any] | None:
        """The deny or hold that still stands: the next load that comes in clears it."""
        return self.kernel.ledger.get("decision", f"{dataset.bare}|{RULE}")
