"""Sealed rows: what is personal in a row lies under the key of the person whose row it is, and is gone with that key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from falaj.core.errors import Conflict, InvalidInput, Unavailable
from falaj.ports.vault import Vault
from falaj.stages.contracts.contract import Contract

SEALED, SUBJECT = "_sealed", "_subject"
"""In a file: the sealed part of each row, and the token of its person. The columns that it holds are there too, all null, so
that the file has every column in its type: a reader without keys sees what an erased person leaves."""
LABEL = "sealed"
"""What the label of an asset says of it: `subject` and `columns`."""
GROUP = 65_536
"""Rows that are opened at once by a scan: one row group."""
Vaults = Callable[[], Vault]


@dataclass(frozen=True, slots=True)
class Sealing:
    """How the rows of one table are sealed: every column but the `clear` ones and falaj's own, which begin with `_`.

    So what nobody has declared is sealed as well. `about` binds the sealed bytes to their place, as in `dataset|visits`.
    """

    subject: str
    clear: frozenset[str]
    about: str
    everything: bool = False
    """Falaj's own columns as well."""

    def columns(self, frame: pl.DataFrame) -> list[str]:
        if self.everything:
            return list(frame.columns)
        return [name for name in frame.columns if name not in self.clear and not name.startswith("_")]


def sealing(contract: Contract, kind: str, name: str, times: Sequence[str] = ()) -> Sealing | None:
    """None where the contract names no subject. `times`: columns that periods are read by, which stay in clear.

    Of quarantine (`kind`) everything is sealed: a row that broke its contract may hold anything anywhere.
    """
    if not contract.subject:
        return None
    clear = {column.name for column in contract.columns} - set(contract.personal) | (set(times) - {contract.subject})
    return Sealing(contract.subject, frozenset(clear if kind == "dataset" else ()), f"{kind}|{name}")


def vault_of(vaults: Vaults | None, what: str) -> Vault:
    """Raises Unavailable where there is none: personal rows are never written in clear instead."""
    if vaults is None:
        raise Unavailable(f"{what} holds personal rows, and there is no vault to seal them.", "open the project with its vault.")
    return vaults()


def tokens(vault: Vault, frame: pl.DataFrame, by: Sealing) -> pl.Series:
    """Whose each row is. Rows of nobody share a key of the table, so that they too can be destroyed, together."""
    nobody = vault.token(f"\0nobody|{by.about}")
    if by.subject not in frame.columns:
        return pl.repeat(nobody, frame.height, eager=True, dtype=pl.String).alias(SUBJECT)
    texts = as_text(frame[by.subject])
    known = {text: vault.token(text) for text in texts.unique().drop_nulls().to_list()}
    if not known:
        return pl.repeat(nobody, frame.height, eager=True, dtype=pl.String).alias(SUBJECT)
    return texts.replace_strict(known, default=nobody, return_dtype=pl.String).alias(SUBJECT)


def as_text(series: pl.Series) -> pl.Series:
    """Persons' identifiers as texts, the same whether a column of whole numbers came as such or as floats; blank is nobody."""
    if series.dtype.is_float():
        series = series.cast(pl.Int64, strict=False)
    try:
        texts = series.cast(pl.String, strict=False).str.strip_chars()
    except pl.exceptions.PolarsError:  # a list, a structure: it names nobody
        return pl.Series(series.name, [None] * series.len(), dtype=pl.String)
    return texts.set(texts == "", None)


def seal(vault: Vault, frame: pl.DataFrame, by: Sealing) -> pl.DataFrame:
    """The frame with its sealed columns emptied, and `_subject` and `_sealed` behind them. Raises Denied where somebody was
    erased meanwhile, Unavailable where the vault does not answer."""
    if SEALED in frame.columns or SUBJECT in frame.columns:
        raise InvalidInput(f"A source hands out a column {SEALED!r} or {SUBJECT!r}, which are falaj's own.", "rename it.")
    names, whose = by.columns(frame), tokens(vault, frame, by)
    texts = frame.select(pl.struct(_written(frame[name]) for name in names).struct.json_encode().alias(SEALED))[SEALED]
    sealed = vault.seal(whose.to_list(), texts.cast(pl.Binary).to_list(), by.about.encode())
    emptied = [pl.lit(None, dtype=frame.schema[name]).alias(name) for name in names]
    return frame.with_columns(*emptied, whose, pl.Series(SEALED, sealed, dtype=pl.Binary))


def unseal(vaults: Vaults | None, frame: pl.DataFrame, about: str, *, keep: bool = True) -> pl.DataFrame:
    """The frame as it was before it was sealed; another one as it is. Of erased people what was sealed is null, or with
    `keep` False their rows are left out. Raises Conflict where sealed bytes were changed."""
    if SEALED not in frame.columns:
        return frame
    vault = vault_of(vaults, about)
    plain = vault.open(frame[SUBJECT].to_list(), frame[SEALED].to_list(), about.encode())
    texts = pl.Series(SEALED, plain, dtype=pl.Binary).cast(pl.String)
    rest = frame.drop(SEALED, SUBJECT)
    head = next((text for text in texts.drop_nulls().head(1)), None)
    if head is None:
        return rest if keep else rest.clear()
    names = [name for name in pl.Series([head]).str.json_decode(infer_schema_length=None).struct.fields if name in rest.columns]
    try:
        found = texts.str.json_decode(pl.Struct(dict.fromkeys(names, pl.String))).struct.unnest()
    except pl.exceptions.PolarsError as exc:
        raise Conflict(f"What was sealed in {about} cannot be read.", "restore it from a backup.") from exc
    opened = rest.with_columns(_read(found[name], rest.schema[name]) for name in names)
    return opened if keep else opened.filter(texts.is_not_null())


def scan(vaults: Vaults | None, path: Path, about: str, hidden: frozenset[str]) -> pl.LazyFrame:
    """A sealed file as a query: only rows that it needs are opened, and none where it asks for no sealed column (`hidden`)."""
    schema = {name: dtype for name, dtype in pl.read_parquet_schema(path).items() if name not in (SEALED, SUBJECT)}

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = list(schema) if columns is None else columns
        asked = set(predicate.meta.root_names()) if predicate is not None else set()
        names = [name for name in schema if name in asked or name in wanted]
        is_opened = bool(hidden & {*names})
        lazy = pl.scan_parquet(path)
        height, left = int(lazy.select(pl.len()).collect().item()), n_rows
        for start in range(0, height, GROUP):
            rows = lazy.slice(start, GROUP).select(*names, *((SUBJECT, SEALED) if is_opened else ()))
            early = predicate is not None and hidden.isdisjoint(asked)
            frame = (rows.filter(predicate) if early and predicate is not None else rows).collect()
            frame = unseal(vaults, frame, about)
            frame = frame.filter(predicate) if predicate is not None and not early else frame
            frame = frame.select(wanted) if left is None else frame.select(wanted).head(left)
            left = None if left is None else left - frame.height
            yield frame
            if left == 0:
                return

    return register_io_source(read, schema=schema)


@dataclass(slots=True)
class Admitted:
    """Lets everybody's rows pass but those of erased people, which may not come back by themselves; counts these."""

    vault: Vault
    by: Sealing
    count: int = 0

    def sift(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        gone = self.vault.erased()
        for frame in frames:
            if not gone or not frame.height:
                yield frame
                continue
            kept = frame.filter(~tokens(self.vault, frame, self.by).is_in(list(gone)))
            self.count += frame.height - kept.height
            yield kept


def _written(series: pl.Series) -> pl.Series:
    """As texts from which each value comes back as it was."""
    dtype, name = series.dtype, series.name
    if dtype == pl.Null:
        return pl.Series(name, [None] * series.len(), dtype=pl.String)
    if dtype == pl.Binary:
        return series.bin.encode("hex")
    if dtype.is_nested():
        return series.to_frame().select(pl.struct(pl.col(name)).struct.json_encode().alias(name))[name]
    return (series.to_physical() if dtype.is_temporal() else series).cast(pl.String)


def _read(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    name = texts.name
    if dtype == pl.Null:
        return pl.Series(name, [None] * texts.len(), dtype=pl.Null)
    if dtype == pl.Binary:
        return texts.str.decode("hex")
    if dtype == pl.Boolean:
        return (texts == "true").alias(name)
    if dtype.is_nested():
        return texts.str.json_decode(pl.Struct({name: dtype})).struct.field(name)
    if dtype.is_temporal():
        return texts.cast(pl.Int64).cast(pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)
    return texts.cast(dtype)
