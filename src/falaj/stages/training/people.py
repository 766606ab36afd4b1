"""Rows that are kept beside a model, where they are about people: each sealed whole, and left out once its person is erased."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.errors import InvalidInput
from falaj.core.recipe import Recipe
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger
from falaj.ports.subjects import Finding
from falaj.stages.contracts.drafts import Drafts
from falaj.stages.contracts.report import plain
from falaj.stages.contracts.sealed import SEALED, SUBJECT, Sealing, Vaults, seal, unseal, vault_of

KEPT = ("holdout", "reference")
"""The labels of an asset that name rows of its training."""
_WHOSE = "_whose"


@dataclass(frozen=True, slots=True)
class People:
    """`subject_of(recipe, spine)`: the column of a training's rows that names the person; empty where they are about nobody."""

    subject_of: Callable[[Recipe, str], str]
    vaults: Vaults

    def whose(self, recipe: Recipe, spine: str, rows: pl.DataFrame) -> pl.Series | None:
        """Whose each row is. Raises InvalidInput where `prepare` has lost it: then nobody could be erased from the training."""
        subject = self.subject_of(recipe, spine)
        if not subject:
            return None
        if subject not in rows.columns:
            raise InvalidInput(
                f"The rows of the training on {spine!r} are about people, and have no column {subject!r} any more.",
                "keep it in `prepare`.",
            )
        return rows[subject].alias(_WHOSE)

    def sealed(self, frame: pl.DataFrame, whose: pl.Series | None, model: str) -> pl.DataFrame:
        """The frame with every cell of every row sealed, labels and scores too; itself where it is about nobody."""
        if whose is None:
            return frame
        by = Sealing(_WHOSE, frozenset(), f"training|{model}", everything=True)
        return seal(vault_of(self.vaults, by.about), frame.with_columns(whose), by)

    def opened(self, data: bytes, model: str) -> pl.DataFrame:
        """The rows in these bytes, without those of erased people."""
        frame = unseal(self.vaults, pl.read_parquet(io.BytesIO(data)), f"training|{model}", keep=False)
        return frame.drop(_WHOSE, strict=False)


class TrainingSubjects:
    """What candidates and models keep of one person's rows. `laid_aside`: where joins put rows that do not fit into memory."""

    name = "training"

    def __init__(self, ledger: Ledger, blobs: Blobs, people: People, laid_aside: Path) -> None:
        self.ledger = ledger
        self.blobs = blobs
        self.people = people
        self.laid_aside = laid_aside

    def find(self, subject: str) -> list[Finding]:
        found = []
        for place, about, rows in self._rows(subject):
            readable = unseal(self.people.vaults, rows[:1], about, keep=False).height > 0
            found.append(Finding(self.name, place, rows.height, readable=readable))
        return found

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        for place, about, rows in self._rows(subject):
            opened = unseal(self.people.vaults, rows, about, keep=False).drop(_WHOSE, strict=False)
            for row in opened.iter_rows(named=True):
                yield {"store": self.name, "place": place, **{name: plain(value) for name, value in row.items()}}

    def erase(self, subject: str) -> list[Finding]:
        """The destroyed key is what erases. What is removed is what killed joins have left, which may be anybody's rows."""
        swept = Drafts(self.laid_aside).sweep()
        return [Finding(self.name, "rows laid aside by joins that were killed", swept, readable=False)] if swept else []

    def probe(self, subject: str) -> list[Finding]:
        """Opens the rows as a gate does, and looks for the person among all of them."""
        found = []
        for place, about, rows in self._rows(subject):
            left = unseal(self.people.vaults, rows, about, keep=False).height
            if left:
                found.append(Finding(self.name, place, left, readable=True))
        return found

    def _rows(self, subject: str) -> Iterator[tuple[str, str, pl.DataFrame]]:
        """(place, what the sealed bytes are about, the person's rows as they lie there)."""
        token = ""
        for key, body in self.ledger.find("asset", prefix="candidate/"):
            labels = decode(Asset, body).labels
            model = key.partition("/")[2].partition("@")[0]
            for label in KEPT:
                digest = labels.get(label)
                if not isinstance(digest, str) or not self.blobs.has(digest):
                    continue
                path = self.blobs.path(digest)
                if SEALED not in pl.read_parquet_schema(path):
                    continue
                token = token or self.people.vaults().token(subject)
                rows = pl.scan_parquet(path).filter(pl.col(SUBJECT) == token).collect()
                if rows.height:
                    yield f"{key} {label}", f"training|{model}", rows
