"""What snapshots and quarantine hold about one person: found by token, handed out, and looked for again once it is erased."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from falaj.core.asset import Asset
from falaj.core.errors import FalajError
from falaj.ports.subjects import Finding
from falaj.stages.contracts.late import LATE
from falaj.stages.contracts.reading import Datasets
from falaj.stages.contracts.report import plain
from falaj.stages.contracts.rows import KINDS
from falaj.stages.contracts.sealed import LABEL, SUBJECT, as_text, unseal, vault_of
from falaj.stages.contracts.snapshots import union


@dataclass(frozen=True, slots=True)
class _Place:
    """One file. `subject`: the column that names the person where the file was written before its contract named one, and so
    holds everything in clear; empty where it is sealed."""

    name: str
    about: str
    path: Path
    subject: str = ""


class RowsOfSubjects:
    """One store of rows: `snapshots` (with late rows, which lie beside them) or `quarantine`.

    Of a sealed file only the column of tokens is read, and then the rows of that one person.
    """

    def __init__(self, datasets: Datasets, name: Literal["snapshots", "quarantine"]) -> None:
        self.name: str = name
        self._datasets = datasets
        self._kind = "dataset" if name == "snapshots" else name

    def find(self, subject: str) -> list[Finding]:
        found = []
        for place, rows in self._rows(subject):
            opened = rows if place.subject else unseal(self._vaults, rows[:1], place.about, keep=False)
            found.append(Finding(self.name, place.name, rows.height, readable=bool(opened.height)))
        return found

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        for place, rows in self._rows(subject):
            opened = rows if place.subject else unseal(self._vaults, rows, place.about, keep=False)
            for row in opened.iter_rows(named=True):
                yield {"store": self.name, "place": place.name, **{name: plain(value) for name, value in row.items()}}

    def erase(self, subject: str) -> list[Finding]:
        """Snapshots never change: the destroyed key is what erases. What is removed are drafts of loads that were killed, which
        may hold anybody's rows as they came."""
        swept = self._datasets.drafts.sweep() if self.name == "snapshots" else 0
        return [Finding(self.name, "drafts of loads that were killed", swept, readable=False)] if swept else []

    def probe(self, subject: str) -> list[Finding]:
        """Reads every file that has the token as whoever reads the dataset does, and looks for the person among all rows."""
        found = []
        for place, rows in self._rows(subject):
            if place.subject:
                found.append(Finding(self.name, place.name, rows.height, readable=True))
                continue
            column = self._column(place)
            opened = unseal(self._vaults, pl.read_parquet(place.path), place.about)
            there = opened.filter(as_text(opened[column]) == subject.strip()).height if column in opened.columns else 0
            left = unseal(self._vaults, rows, place.about, keep=False).height
            if there or left:
                found.append(Finding(self.name, place.name, max(there, left), readable=True))
        return found

    def rows_of(self, dataset: str, subject: str) -> pl.DataFrame:
        """Every readable row of the person in one dataset, as the contract has it."""
        opened = [
            rows if place.subject else unseal(self._vaults, rows, place.about, keep=False)
            for place, rows in self._rows(subject, dataset)
            if not place.about.startswith("late|")
        ]
        kinds = self._datasets.contract(dataset).kinds
        return union(opened, {name: KINDS[kind] for name, kind in kinds.items()})

    @property
    def _vaults(self) -> Any:
        return self._datasets.snapshots.vaults

    def _column(self, place: _Place) -> str:
        return self._datasets.contract(place.about.partition("|")[2]).subject

    def _rows(self, subject: str, dataset: str = "") -> Iterator[tuple[_Place, pl.DataFrame]]:
        """Every file that has rows of the person, and these as they lie there."""
        token: str | None = None
        for place in self._places(dataset):
            scan = pl.scan_parquet(place.path)
            if place.subject:
                frame = scan.collect()
                rows = frame.filter(as_text(frame[place.subject]) == subject.strip())
            else:
                token = token or vault_of(self._vaults, place.about).token(subject)
                rows = scan.filter(pl.col(SUBJECT) == token).collect()
            if rows.height:
                yield place, rows

    def _places(self, dataset: str) -> Iterator[_Place]:
        for name in [dataset] if dataset else self._datasets.datasets:
            for asset in self._datasets.snapshots.assets(self._kind, name, self._datasets.version(name)):
                yield from self._files(asset)

    def _files(self, asset: Asset) -> Iterator[_Place]:
        snapshots = self._datasets.snapshots
        is_sealed = LABEL in asset.labels
        for part in snapshots.parts(asset):
            path = snapshots.blobs.path(part.digest)
            if is_sealed:
                yield _Place(str(asset.ref), f"{asset.ref.kind}|{asset.ref.name}", path)
            elif subject := self._was_in_clear(asset.ref.name, path):
                yield _Place(f"{asset.ref} (in clear)", f"{asset.ref.kind}|{asset.ref.name}", path, subject)
        if self._kind == "dataset" and is_sealed and LATE in asset.labels:
            path = snapshots.blobs.path(str(asset.labels[LATE]))
            yield _Place(f"{asset.ref} late", f"late|{asset.ref.name}", path)

    def _was_in_clear(self, name: str, path: Path) -> str:
        """The subject's column in a file from before the contract named one; empty where nobody is named."""
        try:
            subject = self._datasets.contract(name).subject
        except FalajError:  # a contract that cannot be read names nobody; `falaj contract lint` says so
            return ""
        return subject if subject and subject in pl.read_parquet_schema(path) else ""
