"""Reading datasets: their rows for any period and as known at any time, their snapshots, and what these look like."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from falaj.core.moments import from_millis, iso, moment
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.ports.source import Source
from falaj.stages.action import Kernel
from falaj.stages.contracts import odcs
from falaj.stages.contracts.alike import aligned
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.document import LARGEST
from falaj.stages.contracts.drafts import Drafts
from falaj.stages.contracts.head import Head
from falaj.stages.contracts.load import FunctionSource, pieces
from falaj.stages.contracts.rows import KINDS, Rule, instant
from falaj.stages.contracts.rules import Judge, Plan
from falaj.stages.contracts.sealed import Admitted, Vaults, sealing, vault_of
from falaj.stages.contracts.snapshots import PART_ROWS, Snapshots, covers, union, within
from falaj.stages.contracts.spec import Dataset, Derived, From
from falaj.stages.contracts.versions import key_of, latest

By = Literal["time", "known"]
SNAPSHOT, DIGEST, ROW = "_snapshot", "_digest", "_row"
"""How `placed` says in which snapshot a row stands, what that snapshot's digest is, and which of its rows it is."""


class Datasets:
    """The datasets of a project, as they can be read. `folder` is the project's, where the contract files are.

    `open_source` opens a source that is named by its adapter. `vaults` opens the vault, which only datasets about people
    need. `drafts`: where loads that do not fit into one part are kept
    until they are judged; by default a folder beside the contracts that is only made when it is needed.
    """

    def __init__(
        self, kernel: Kernel, blobs: Blobs, datasets: Mapping[str, Dataset], folder: Path, *, zone: str = "local",
        open_source: Callable[[From], Source] | None = None, drafts: Path | None = None, part_rows: int = PART_ROWS,
        vaults: Vaults | None = None,
    ) -> None:  # fmt: skip
        self.kernel = kernel
        self.blobs = blobs
        self.datasets = datasets
        self.folder = folder
        self.zone = zone
        self.part_rows = part_rows
        self._open_source = open_source
        self.drafts = Drafts(drafts or folder / ".drafts")
        self.snapshots = Snapshots(kernel.ledger, blobs, vaults=vaults)
        self._paths: dict[str, Path] = {}
        self._read: dict[str, tuple[bytes, Contract]] = {}
        self._plans: dict[str, tuple[Contract, pl.Schema, Plan]] = {}

    def frame(self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: By = "time") -> pl.DataFrame:
        """The rows of all snapshots whose event time (or, by `known`, whose known time) is in (since, until], as they came.

        A column whose type has changed is read as the contract has it now. Raises Conflict where a snapshot is not what was
        written, or holds values that are not of that type.
        """
        column = getattr(self._declared(name), by)
        found = self.assets(name, since, until, by=by)
        frames = [
            (str(asset.ref), within(frame, column, since, until))
            for asset in found
            for frame in self.snapshots.frames(asset, by, since, until)
        ]
        schema = self._schema(name)
        return union(aligned(frames, schema), schema)

    def scan(self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: By = "time") -> pl.LazyFrame:
        """The same rows as a query that has not read them yet: only the parts of the period are opened when it runs."""
        column = pl.col(getattr(self._declared(name), by))
        found = self.assets(name, since, until, by=by)
        scans = [(str(asset.ref), scan) for asset in found for scan in self.snapshots.scan(asset, by, since, until)]
        schema = self._schema(name)
        rows = pl.concat(aligned(scans, schema), how="diagonal_relaxed") if scans else pl.LazyFrame(schema=schema)
        rows = rows.filter(column > pl.lit(since)) if since is not None else rows
        return rows.filter(column <= pl.lit(until)) if until is not None else rows

    def current(self, name: str, at: datetime | None = None) -> pl.DataFrame:
        """Of each key of the contract the row that was known at `at`, by default now, in the order they became known.

        Raises InvalidInput where the contract has no key.
        """
        declared, contract = self._declared(name), self.contract(name)
        return latest(self._keyed(declared, contract, at), key_of(contract, name), declared.known).collect()

    def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
        """Every good row that became known in (since, until]: from snapshots, and what came after them straight from the source.

        The watermark parts the two, so no row counts twice. A load that would be denied as a whole adds nothing. What hands
        out whole tables becomes known by being taken in: of such a dataset, as of a derived one, only snapshots count.
        """
        declared, head, until = self._declared(name), self._head(name), to_millis(until)
        mark = head.watermark
        start = mark if since is None or (mark is not None and mark > since) else since
        # What came after the snapshots cannot be in them: looking there would cost more than all the rest.
        newest = max((at for at in (mark, head.mended) if at is not None), default=None)
        is_after = newest is not None and since is not None and since >= newest
        kept = None if is_after or not head.version else self.frame(name, since=since, until=until, by="known")
        is_asked = not declared.brings_all and not isinstance(declared.source, Derived)
        asked = self._ask(declared, start, until) if is_asked and (start is None or start < until) else None
        if asked is None or asked.is_empty():
            return kept if kept is not None else pl.DataFrame(schema=self._schema(name))
        fresh = self._passed(declared, asked, promise(declared, start, until))
        return fresh if kept is None else union([kept, fresh])

    def assets(self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: By = "time") -> list[Asset]:
        """The snapshots that hold rows of (since, until], by version."""
        found = self.snapshots.assets("dataset", self._declared(name).name, self._head(name).version)
        return [asset for asset in found if (since is None and until is None) or covers(asset, by, since, until)]

    def placed(self, name: str, since: datetime | None, until: datetime, where: pl.Expr) -> pl.DataFrame:
        """The rows known in (since, until] that `where` picks, and the place of each: `_snapshot`, `_digest`, `_row` (from 0)."""
        found = []
        for asset in self.assets(name, since, until, by="known"):
            rows = self.snapshots.frame(asset)
            if set(where.meta.root_names()) <= set(rows.columns):
                here = (pl.lit(str(asset.ref)).alias(SNAPSHOT), pl.lit(asset.digest).alias(DIGEST))
                own = rows.with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64), *here).filter(where)
                found.append(within(own, self._declared(name).known, since, until))
        places = {ROW: pl.Int64(), SNAPSHOT: pl.String(), DIGEST: pl.String()}
        return union(found, {**self._schema(name), **places})

    def row(self, asset: Ref, column: str, value: Any) -> Mapping[str, Any]:
        """The one row of a snapshot where `column` is `value`. Raises NotFound for none, Conflict for several."""
        body = self.kernel.ledger.get("asset", str(asset))
        if body is None:
            raise NotFound(f"There is no asset {asset}.", f"falaj dataset show {asset.name}")
        found: list[pl.DataFrame] = []
        for frame in self.snapshots.frames(decode(Asset, body), "time"):
            if column not in frame.columns:
                raise NotFound.named("column", column, frame.columns)
            try:
                found.append(frame.filter(pl.col(column) == pl.lit(value)))
            except pl.exceptions.PolarsError as exc:
                raise InvalidInput(f"{value!r} cannot be compared with the column {column!r} ({frame.schema[column]}).") from exc
        rows = union(found)
        if rows.height != 1:
            kind = NotFound if not rows.height else Conflict
            raise kind(f"{asset} has {rows.height or 'no'} rows where {column} is {value!r}.", "name the value of a key column.")
        return rows.row(0, named=True)

    def profile(self, asset: Ref) -> Mapping[str, Any]:
        """What the rows of one snapshot look like. Raises NotFound."""
        version = asset.version or ""
        found = self._profile(asset.name, int(version)) if asset.kind == "dataset" and version.isdecimal() else None
        if found is None:
            raise NotFound(f"There is no profile of {asset}.", f"falaj dataset show {asset.name}")
        return found

    def version(self, name: str) -> int:
        """Of the newest snapshot; 0 where nothing was taken in yet."""
        return self._head(self._declared(name).name).version

    def contract(self, name: str) -> Contract:
        """The contract as the file says now. Raises InvalidInput where it cannot be read."""
        return self._contract(self._declared(name))[1]

    def source(self, name: str) -> Source:
        """The dataset's source, opened. Raises InvalidInput, NotFound or MissingDependency where it cannot be."""
        declared = self._declared(name)
        if isinstance(declared.source, Derived):
            # It brings a query engine, which few datasets need.
            derive = importlib.import_module("falaj.stages.contracts.derive")
            opened: Source = derive.derived(declared, self._current if declared.source.over == "all" else self._since)
            return opened
        if isinstance(declared.source, From):
            if self._open_source is None:
                raise InvalidInput(f"The source of {name!r} cannot be opened here.", "give a function of (since, until).")
            try:
                return self._open_source(declared.source)
            except TypeError as exc:  # an option that the adapter has not, or lacks
                raise InvalidInput(f"The source of {name!r} cannot be opened: {exc}.", "mend the options of From(…).") from exc
        if not callable(declared.source):
            raise InvalidInput(f"The source of {name!r} is no source.", "give a function of (since, until), or From(…).")
        return FunctionSource(declared.source)

    def covered(self, declared: Dataset, until: datetime) -> datetime:
        """Until when a dataset can be taken in: a derived one no further than its inputs, or rows that they still lack would
        never be seen. Raises Unavailable where an input has nothing yet."""
        for name in declared.source.inputs if isinstance(declared.source, Derived) else ():
            self._declared(name)
            mark = self._head(name).watermark
            if mark is None:
                raise Unavailable(
                    f"The dataset {declared.name!r} is derived from {name!r}, of which nothing was taken in yet.",
                    f"falaj dataset ingest {name}",
                )
            until = min(until, mark)
        return until

    def _since(self, name: str, since: datetime | None, until: datetime) -> pl.LazyFrame:
        """What a step over new rows reads: every row of the period."""
        return self.scan(name, since=since, until=until, by="known")

    def _current(self, name: str, since: datetime | None, until: datetime) -> pl.LazyFrame:
        """What a step over all rows reads: of each key the row known by then; without a key every row."""
        declared, contract = self._declared(name), self.contract(name)
        rows = self._keyed(declared, contract, until)
        return latest(rows, contract.key, declared.known) if contract.key else rows

    def _keyed(self, declared: Dataset, contract: Contract, until: datetime | None) -> pl.LazyFrame:
        """Every row known by then, but those that lost their key because the person was erased."""
        rows = self.scan(declared.name, until=until, by="known")
        lost = [name for name in contract.key if name in contract.personal] if contract.subject else []
        return rows.drop_nulls(lost) if lost else rows

    def _check_kept_personal(self, declared: Dataset, contract: Contract, inputs: tuple[str, ...]) -> None:
        """Raises InvalidInput where a derived dataset would write in clear what its input has sealed."""
        for name in inputs:
            behind = self.contract(name)
            lost = [column for column in behind.personal if column in contract.kinds and column not in contract.personal]
            if behind.subject and (lost or (contract.personal and not contract.subject)):
                raise InvalidInput(
                    f"{declared.name!r} is made of {name!r}; its contract does not say that {', '.join(lost) or 'it'} is personal"
                    " and of whom.",
                    "classify the column as there and mark the subject; a figure over many people needs a name of its own.",
                )

    def _admitted(self, name: str, contract: Contract) -> Admitted | None:
        """What lets rows of a source pass, where they are about people. Raises Unavailable where there is no vault."""
        by = sealing(contract, "dataset", name)
        return Admitted(vault_of(self.snapshots.vaults, f"dataset/{name}"), by) if by else None

    def _declared(self, name: str) -> Dataset:
        if name not in self.datasets:
            raise NotFound.named("dataset", name, self.datasets)
        return self.datasets[name]

    def _head(self, name: str) -> Head:
        body = self.kernel.ledger.get("head", f"dataset/{name}")
        return Head() if body is None else decode(Head, body)

    def _contract(self, declared: Dataset) -> tuple[bytes, Contract]:
        path = self._path(declared.contract)
        try:
            with path.open("rb") as file:
                written = file.read(LARGEST + 1)
        except OSError as exc:
            raise NotFound(
                f"The dataset {declared.name!r} has no contract at {path}: {exc.strerror}.", "write it, or mend `contract`."
            ) from exc
        held = self._read.get(declared.name)
        if held is None or held[0] != written:
            contract = odcs.read(written, declared.contract)
            for column in (declared.time, declared.known):
                if contract.kinds.get(column) != "timestamp":
                    raise InvalidInput(
                        f"{declared.contract} has no timestamp {column!r}, which the dataset {declared.name!r} names.", "add it."
                    )
            held = self._read[declared.name] = (written, contract)
        return held

    def _path(self, contract: str) -> Path:
        """Asked several times a round, and to follow every link on the way costs more than to read the file."""
        held = self._paths.get(contract)
        if held is None:
            held = (self.folder / contract).resolve()
            if not held.is_relative_to(self.folder.resolve()):
                raise InvalidInput(f"The contract {contract!r} is outside the project.", "keep it in the project's folder.")
            self._paths[contract] = held
        return held

    def _ask(self, declared: Dataset, since: datetime | None, until: datetime) -> pl.DataFrame:
        contract = self.contract(declared.name)
        frames = pieces(self.source(declared.name), declared, since, until, hides=bool(contract.personal))
        admitted = self._admitted(declared.name, contract)
        return pl.concat(list(admitted.sift(frames) if admitted else frames))

    def _passed(self, declared: Dataset, frame: pl.DataFrame, also: tuple[Rule, ...]) -> pl.DataFrame:
        """The rows that come through, each judged by itself. Asked for every few seconds, so the plan is kept."""
        contract, schema = self.contract(declared.name), frame.schema
        held = self._plans.get(declared.name)
        plan = held[2] if held is not None and held[0] is contract and held[1] == schema else None
        judge = Judge(contract, schema, also=also, whole=False, plan=plan)
        seen = judge.look(frame)
        if judge.stopped or seen is None:
            return pl.DataFrame(schema=self._schema(declared.name))
        if plan is None:
            self._plans[declared.name] = (contract, schema, judge.plan)
        return judge.good(seen)

    def _profile(self, name: str, version: int, label: str = "profile") -> Mapping[str, Any] | None:
        """The profile of a snapshot: each one keeps the bins of the one before, and so of the first."""
        body = self.kernel.ledger.get("asset", f"dataset/{name}@{version}") if version else None
        labels = decode(Asset, body).labels if body is not None else {}
        digest = labels.get(label, labels.get("profile"))
        return dict(json.loads(self.blobs.get(digest))) if digest else None

    def _schema(self, name: str) -> dict[str, Any]:
        """The columns of a dataset without rows, as the contract states them."""
        return {column: KINDS[kind] for column, kind in self.contract(name).kinds.items()}


def promise(declared: Dataset, since: datetime | None, until: datetime) -> tuple[Rule, ...]:
    """A source promises rows known in (since, until]. Any other may have been taken in before, or would be known too early."""
    it = pl.col(declared.known)
    late = it.is_null() | (it > instant(until))
    broken = late if since is None else late | (it <= instant(since))
    wanted = f"in ({iso(since) if since else 'ever'}, {iso(until)}]"
    return (Rule(f"{declared.known} is in the period asked for", wanted, broken, None, (declared.known,)),)


def to_millis(at: datetime) -> datetime:
    """Down to the millisecond, in which all times are kept."""
    return from_millis((moment(at) - from_millis(0)) // timedelta(milliseconds=1))
