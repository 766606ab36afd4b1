"""What scorings have written about one person: files in the project's folder, which are taken out row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.errors import Unavailable
from falaj.ports.ledger import Ledger
from falaj.ports.subjects import Finding


class ScoreSubjects:
    """The folders that scorings wrote into, as long as they are where they were written; copies made since are nobody's to see.

    `folder`: the project's. A person is looked for in every column of texts and whole numbers: scores come from files without a
    contract as well.
    """

    name = "scores"

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.folder = folder

    def find(self, subject: str) -> list[Finding]:
        return [Finding(self.name, place, rows.height, readable=True) for place, _, rows in self._rows(subject)]

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        for place, _, rows in self._rows(subject):
            for row in rows.iter_rows(named=True):
                yield {"store": self.name, "place": place, **row}

    def erase(self, subject: str) -> list[Finding]:
        """Writes each file anew without the person's rows. Its digest is another one then than the scoring's receipt has, and
        the same scoring asked for again writes it again, from rows that hold the person no more. Raises Unavailable."""
        found = []
        for place, path, rows in self._rows(subject):
            kept = pl.read_parquet(path).filter(~_is(subject, pl.read_parquet_schema(path)))
            draft = path.with_name(f".{path.name}")
            try:
                with draft.open("wb") as file:
                    kept.write_parquet(file, compression="zstd", statistics=False)
                    file.flush()
                    os.fsync(file.fileno())
                draft.rename(path)
            except OSError as exc:
                raise Unavailable(f"{path} cannot be written: {exc.strerror}.", "make room, and erase again.") from exc
            found.append(Finding(self.name, place, rows.height, readable=False))
        return found

    def probe(self, subject: str) -> list[Finding]:
        return self.find(subject)

    def _rows(self, subject: str) -> Iterator[tuple[str, Path, pl.DataFrame]]:
        root = self.folder.resolve()
        for key, body in self.ledger.find("asset", prefix="scores/"):
            output = decode(Asset, body).labels.get("output")
            folder = (root / str(output)).resolve() if output else root
            if folder == root or not folder.is_relative_to(root) or not folder.is_dir():
                continue
            for path in sorted(folder.glob("part-*.parquet")):
                rows = pl.scan_parquet(path).filter(_is(subject, pl.read_parquet_schema(path))).collect()
                if rows.height:
                    yield f"{key} {path.name}", path, rows


def _is(subject: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Whether any cell of a row is the person's identifier. Null is nobody's."""
    text = subject.strip()
    cells = [pl.col(name).cast(pl.String) for name, dtype in schema.items() if dtype == pl.String or dtype.is_integer()]
    return pl.any_horizontal([(cell.str.strip_chars() == text).fill_null(value=False) for cell in cells] or [pl.lit(value=False)])
