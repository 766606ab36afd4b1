"""Contracts at work: a load comes in through its contract, and stays as an immutable snapshot that can be read for any period."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import canonical, decode, encode
from falaj.core.decision import Check, Decision
from falaj.core.errors import Conflict, FalajError, InvalidInput, MissingDependency, NotFound, Unavailable
from falaj.core.moments import from_millis, iso, moment
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.contracts import odcs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.document import LARGEST
from falaj.stages.contracts.profile import profile
from falaj.stages.contracts.rules import REASONS, Checked, Rule, check
from falaj.stages.contracts.snapshots import Snapshots, covers, parquet, span, union, within
from falaj.stages.contracts.spec import Dataset

RULE = "contract"
SNAPSHOT, DIGEST, ROW = "_snapshot", "_digest", "_row"
"""How `placed` says in which snapshot a row stands, what that snapshot's digest is, and which of its rows it is."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a dataset stands: its newest snapshot, and until when everything known has been taken in."""

    version: int = 0
    watermark: datetime | None = None
    known_rows: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """One call of a source, judged."""

    head: Head
    until: datetime
    contract: Contract
    written: bytes
    """The contract file."""
    checked: Checked


class Contracts:
    """The datasets of a project. `folder` is the project's, where the contract files are."""

    def __init__(
        self, kernel: Kernel, blobs: Blobs, datasets: Mapping[str, Dataset], folder: Path, *, zone: str = "local"
    ) -> None:
        self.kernel = kernel
        self.blobs = blobs
        self.datasets = datasets
        self.folder = folder
        self.zone = zone
        self._snapshots = Snapshots(kernel.ledger, blobs)
        self._read: dict[str, tuple[bytes, Contract]] = {}

    @action("dataset.ingest")
    def ingest(self, act: Act, dataset: Ref, *, until: datetime) -> Decision:
        """Takes in what became known up to `until`: good rows as a snapshot, the others to quarantine with their reasons.

        A load that breaks the contract as a whole is denied and nothing of it is kept; the watermark stays, so that the next
        call asks for the same rows again. The same `until` again changes nothing. Raises Unavailable where the source fails,
        InvalidInput where the contract cannot be read, Conflict where somebody else took in the same period meanwhile.
        """
        declared = self._declared(dataset.name)
        until = _to_millis(until)
        head = self._head(dataset.name)
        if head.watermark is not None and until <= head.watermark:
            return self._repeated(dataset, head, act)
        load = self._load(declared, head, until)
        if load.checked.stopped:
            return self._refuse(act, dataset.bare, load)
        if not load.checked.rows:
            return self._move(act, dataset.bare, load)
        return self._keep(act, declared, load)

    def frame(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Literal["time", "known"] = "time"
    ) -> pl.DataFrame:
        """The rows of all snapshots whose event time (or, by `known`, whose known time) is in (since, until], as they came.

        Raises Conflict where a snapshot is not what was written.
        """
        column = getattr(self._declared(name), by)
        frames = [self._snapshots.frame(asset) for asset in self.assets(name, since, until, by=by)]
        return within(union(frames, self._schema(name)), column, since, until)

    def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
        """Every good row that became known in (since, until]: from snapshots, and what came after them straight from the source.

        The watermark parts the two, so no row counts twice. A load that would be denied as a whole adds nothing.
        """
        declared, head, until = self._declared(name), self._head(name), _to_millis(until)
        mark = head.watermark
        start = mark if since is None or (mark is not None and mark > since) else since
        # What came after the snapshots cannot be in them: looking there would cost more than all the rest.
        is_after = mark is not None and since is not None and since >= mark
        kept = None if is_after or not head.version else self.frame(name, since=since, until=until, by="known")
        asked = self._ask(declared, start, until) if start is None or start < until else None
        if asked is None or asked.is_empty():
            return kept if kept is not None else pl.DataFrame(schema=self._schema(name))
        checked = check(asked, self.contract(name), also=_promise(declared, start, until), whole=False)
        fresh = pl.DataFrame(schema=self._schema(name)) if checked.stopped else checked.good
        return fresh if kept is None else union([kept, fresh])

    def assets(
        self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: Literal["time", "known"] = "time"
    ) -> list[Asset]:
        """The snapshots that hold rows of (since, until], by version."""
        found = self._snapshots.assets("dataset", self._declared(name).name, self._head(name).version)
        return [asset for asset in found if (since is None and until is None) or covers(asset, by, since, until)]

    def placed(self, name: str, since: datetime | None, until: datetime, where: pl.Expr) -> pl.DataFrame:
        """The rows known in (since, until] that `where` picks, and the place of each: `_snapshot`, `_digest`, `_row` (from 0)."""
        found = []
        for asset in self.assets(name, since, until, by="known"):
            rows = self._snapshots.frame(asset)
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
        frame = self._snapshots.frame(decode(Asset, body))
        if column not in frame.columns:
            raise NotFound.named("column", column, frame.columns)
        try:
            found = frame.filter(pl.col(column) == pl.lit(value))
        except pl.exceptions.PolarsError as exc:
            raise InvalidInput(f"{value!r} cannot be compared with the column {column!r} ({frame.schema[column]}).") from exc
        if found.height != 1:
            kind = NotFound if not found.height else Conflict
            raise kind(f"{asset} has {found.height or 'no'} rows where {column} is {value!r}.", "name the value of a key column.")
        return found.row(0, named=True)

    def look(self, name: str) -> dict[str, Any]:
        """Where the dataset stands: version, watermark, rows, contract, latest decision."""
        declared, head = self._declared(name), self._head(name)
        good = self._snapshots.assets("dataset", name, head.version)
        bad = self._snapshots.assets("quarantine", name, head.version)
        return {
            "dataset": str(declared.ref),
            "version": head.version,
            "watermark": iso(head.watermark) if head.watermark else None,
            "rows": head.known_rows,
            "quarantined": sum(int(asset.labels.get("rows", 0)) for asset in bad),
            "snapshots": [
                {"ref": str(a.ref), "rows": a.labels.get("rows"), "digest": a.digest, "until": a.labels.get("until")}
                for a in good
            ],
            "labels": dict(good[-1].labels) if good else {},
            "decision": self._refusal(declared.ref) or (encode(self._taken(declared.ref, head)) if head.version else None),
        }

    def quarantine(self, name: str) -> pl.DataFrame:
        """Every row that was kept out, as it came, with `_reasons` and the `_version` of its load."""
        found = self._snapshots.assets("quarantine", self._declared(name).name, self._head(name).version)
        frames = [self._snapshots.frame(asset).with_columns(_version=pl.lit(int(asset.ref.version or 0))) for asset in found]
        empty = {**self._schema(name), REASONS: pl.List(pl.String), "_version": pl.Int32}
        return union(frames, empty)

    def contract(self, name: str) -> Contract:
        """The contract as the file says now. Raises InvalidInput where it cannot be read."""
        return self._contract(self._declared(name))[1]

    def _declared(self, name: str) -> Dataset:
        if name not in self.datasets:
            raise NotFound.named("dataset", name, self.datasets)
        return self.datasets[name]

    def _head(self, name: str) -> Head:
        body = self.kernel.ledger.get("head", f"dataset/{name}")
        return Head() if body is None else decode(Head, body)

    def _contract(self, declared: Dataset) -> tuple[bytes, Contract]:
        path = (self.folder / declared.contract).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InvalidInput(f"The contract {declared.contract!r} is outside the project.", "keep it in the project's folder.")
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

    def _ask(self, declared: Dataset, since: datetime | None, until: datetime) -> pl.DataFrame:
        if not callable(declared.source):
            raise InvalidInput(f"The source of {declared.name!r} cannot be opened yet.", "give a function of (since, until).")
        try:
            frame = declared.source(since, until)
        except FalajError:
            raise
        except ModuleNotFoundError as exc:
            raise MissingDependency(
                f"The source of {declared.name!r} needs {exc.name!r}, which is not installed.", f"pip install {exc.name}"
            ) from exc
        except Exception as exc:  # a source is the user's code: whatever it raises, the load can be tried again
            text = str(exc)[:300]
            raise Unavailable(
                f"The source of {declared.name!r} failed: {type(exc).__name__}: {text}", "mend the source; nothing was taken in."
            ) from exc
        if not isinstance(frame, pl.DataFrame):
            raise InvalidInput(
                f"The source of {declared.name!r} returned a {type(frame).__name__}.", "return a polars.DataFrame."
            )
        return frame

    def _load(self, declared: Dataset, head: Head, until: datetime) -> Load:
        written, contract = self._contract(declared)
        frame = self._ask(declared, head.watermark, until)
        return Load(head, until, contract, written, check(frame, contract, also=_promise(declared, head.watermark, until)))

    def _repeated(self, dataset: Ref, head: Head, act: Act) -> Decision:
        taken = self._taken(dataset, head)
        if taken is not None:
            return taken
        seen = iso(head.watermark) if head.watermark else "nothing"
        return Decision(
            dataset.bare,
            RULE,
            "allow",
            (Check("watermark", "later than before", seen, True),),
            act.actor,
            act.now,
            "nothing to take in",
        )

    def _taken(self, dataset: Ref, head: Head) -> Decision | None:
        """The decision that let the newest snapshot in."""
        body = self.kernel.ledger.get("decision", f"{dataset.at(head.version)}|{RULE}") if head.version else None
        return decode(Decision, body) if body is not None else None

    def _refusal(self, dataset: Ref) -> Mapping[str, Any] | None:
        """The deny that still stands: the next load that comes in clears it."""
        return self.kernel.ledger.get("decision", f"{dataset.bare}|{RULE}")

    def _refuse(self, act: Act, dataset: Ref, load: Load) -> Decision:
        checked = load.checked
        decision = Decision(dataset, RULE, "deny", checked.checks, act.actor, act.now, checked.stopped)
        body = self._refusal(dataset)
        before = decode(Decision, body) if body is not None else None
        if before is not None and (before.verdict, before.checks, before.reason) == ("deny", decision.checks, decision.reason):
            return before  # told already: a source that stays broken must not fill the ledger
        with act.change() as draft:
            draft.decide(decision)
            draft.note(rows=checked.rows, verdict="deny", contract=load.contract.digest, until=load.until)
        return decision

    def _move(self, act: Act, dataset: Ref, load: Load) -> Decision:
        """No new rows: the watermark moves, and nothing else."""
        with act.change() as draft:
            _still(draft, dataset, load.head)
            draft.put("head", str(dataset), Head(load.head.version, load.until, load.head.known_rows))
            draft.note(rows=0, until=load.until)
        return Decision(dataset, RULE, "allow", load.checked.checks, act.actor, act.now, "no new rows")

    def _keep(self, act: Act, declared: Dataset, load: Load) -> Decision:
        """Blobs first, the record last: a crash in between leaves bytes that no record names."""
        checked, head = load.checked, load.head
        ref = declared.ref.at(head.version + 1)
        labels = self._labels(declared, load)
        good = self._asset(ref, checked.good, act.now, {**labels, **self._shape(declared, load)})
        bad = self._asset(Ref("quarantine", ref.name, ref.version), checked.bad, act.now, labels) if checked.quarantined else None
        reason = f"{checked.good.height:,} rows taken in" + (f", {checked.quarantined:,} in quarantine" if bad else "")
        decision = Decision(ref, RULE, "allow", checked.checks, act.actor, act.now, reason)
        with act.change(ref) as draft:
            _still(draft, declared.ref, head)
            draft.put("asset", str(ref), good)
            if bad is not None:
                draft.put("asset", str(bad.ref), bad)
            draft.put("head", str(declared.ref), Head(head.version + 1, load.until, head.known_rows + checked.good.height))
            draft.decide(decision)
            draft.note(rows=checked.good.height, quarantined=checked.quarantined, digest=good.digest)
            draft.note(contract=load.contract.digest, until=load.until)
        return decision

    def _asset(self, ref: Ref, frame: pl.DataFrame, at: datetime, labels: Mapping[str, Any]) -> Asset:
        digest = self.blobs.put(parquet(frame))
        return Asset(ref, digest, digest, self.zone, {**labels, "rows": frame.height}, created_at=at)

    def _labels(self, declared: Dataset, load: Load) -> dict[str, Any]:
        contract = load.contract
        return {
            **contract.labels,
            "contract": self.blobs.put(load.written),
            "contract_version": contract.version,
            "owner": contract.owner,
            "since": load.head.watermark,
            "until": load.until,
        }

    def _shape(self, declared: Dataset, load: Load) -> dict[str, Any]:
        """What the good rows look like: names and types, the periods they cover, and the digest of their profile."""
        good = load.checked.good
        classes = sorted({column.classification for column in load.contract.columns if column.classification})
        return {
            "columns": {name: str(dtype) for name, dtype in good.schema.items()},
            **({"column_classes": classes[:20]} if classes else {}),
            **span(good, (("time", declared.time), ("known", declared.known))),
            "profile": self.blobs.put(canonical(profile(good, self._profile(declared.name, load.head.version)))),
        }

    def _profile(self, name: str, version: int) -> Mapping[str, Any] | None:
        """The profile of a snapshot: each one keeps the bins of the one before, and so of the first."""
        body = self.kernel.ledger.get("asset", f"dataset/{name}@{version}") if version else None
        digest = decode(Asset, body).labels.get("profile") if body is not None else None
        return dict(json.loads(self.blobs.get(digest))) if digest else None

    def profile(self, asset: Ref) -> Mapping[str, Any]:
        """What the rows of one snapshot look like. Raises NotFound."""
        version = asset.version or ""
        found = self._profile(asset.name, int(version)) if asset.kind == "dataset" and version.isdecimal() else None
        if found is None:
            raise NotFound(f"There is no profile of {asset}.", f"falaj dataset show {asset.name}")
        return found

    def _schema(self, name: str) -> dict[str, Any]:
        """The columns of a dataset without rows, as the contract states them."""
        kinds = {"string": pl.String, "integer": pl.Int64, "number": pl.Float64, "boolean": pl.Boolean, "date": pl.Date}
        return {column: kinds.get(kind, pl.Datetime("ms", "UTC")) for column, kind in self.contract(name).kinds.items()}


def _promise(declared: Dataset, since: datetime | None, until: datetime) -> tuple[Rule, ...]:
    """A source promises rows known in (since, until]. Any other may have been taken in before, or would be known too early."""
    it = pl.col(declared.known)
    late = it.is_null() | (it > pl.lit(until))
    broken = late if since is None else late | (it <= pl.lit(since))
    wanted = f"in ({iso(since) if since else 'ever'}, {iso(until)}]"
    return (Rule(f"{declared.known} is in the period asked for", wanted, broken),)


def _still(draft: Draft, dataset: Ref, head: Head) -> None:
    """Reads the head again under the write lock: of two that took in the same period, one is refused. A standing deny ends."""
    body = draft.get("head", str(dataset))
    if (Head() if body is None else decode(Head, body)) != head:
        raise Conflict(f"{dataset} was taken in by somebody else meanwhile.", "call ingest again.")
    if draft.get("decision", f"{dataset}|{RULE}") is not None:
        draft.remove("decision", f"{dataset}|{RULE}")


def _to_millis(at: datetime) -> datetime:
    """Down to the millisecond, in which all times are kept."""
    return from_millis((moment(at) - from_millis(0)) // timedelta(milliseconds=1))
