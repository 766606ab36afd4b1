"""Contracts at work: a load comes in through its contract, and stays as an immutable snapshot that can be read for any period."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.decision import Check, Decision, Verdict
from falaj.core.errors import Conflict, NotFound, Unavailable
from falaj.core.moments import iso, length
from falaj.core.ref import Ref
from falaj.core.wording import count
from falaj.stages.action import Act, Draft, action
from falaj.stages.contracts import mending, quarantine, report, sla
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.drafts import Draft as Space
from falaj.stages.contracts.head import RULE, Head
from falaj.stages.contracts.keeping import Keeping, Kept, Load, after
from falaj.stages.contracts.late import Late, pools
from falaj.stages.contracts.load import By, Judged, judge, labels_of, pieces, take
from falaj.stages.contracts.odcs import MOST_COLUMNS
from falaj.stages.contracts.quarantine import MENDS, Mended
from falaj.stages.contracts.reading import promise, to_millis
from falaj.stages.contracts.rows import KINDS
from falaj.stages.contracts.rules import Around
from falaj.stages.contracts.shown import Shown
from falaj.stages.contracts.snapshots import parquet, recut
from falaj.stages.contracts.spec import Dataset, Derived
from falaj.stages.contracts.unversioned import before, unversioned
from falaj.stages.contracts.versions import Table, key_of

__all__ = ["RULE", "Contracts", "Head"]


class Contracts(Shown):
    """The datasets of a project, taken in and looked after."""

    @property
    def _keeping(self) -> Keeping:
        return Keeping(self.snapshots, self.blobs, self.part_rows)

    @action("dataset.ingest")
    def ingest(self, act: Act, dataset: Ref, *, until: datetime) -> Decision:
        """Takes in what became known up to `until`: good rows as a snapshot, the others to quarantine with their reasons.

        A load that breaks the contract as a whole is denied, one with columns that somebody has to look at is held; nothing
        of either is kept, and the watermark stays, so that the next call asks for the same rows again. The same `until` again
        changes nothing, and so does a table that has not changed. Raises Unavailable where the source fails or the disk is
        full, InvalidInput where the contract cannot be read, Conflict where somebody else took in the same period meanwhile.
        """
        declared = self._declared(dataset.name)
        self.drafts.sweep_once()
        until = self.covered(declared, to_millis(until))
        head = self._head(dataset.name)
        if head.watermark is not None and until <= head.watermark:
            if isinstance(declared.source, Derived):
                self.source(dataset.name)  # a step that was broken meanwhile is told now, not when an input moves
            return _repeated(dataset, head, head.watermark, act)
        with self.drafts.open() as space:
            load = self._load(declared, head, until, space)
            if load.judged.stopped or load.held:
                return self._refuse(act, dataset.bare, load)
            return self._keep(act, declared, load)

    @action("dataset.replay")
    def replay(self, act: Act, dataset: Ref, *, rows: pl.DataFrame | None = None) -> Decision:
        """Sends rows from quarantine through the contract once more: as they came, or as `rows` has mended them.

        What keeps the contract now comes in as a new snapshot, known from now on, whose label `mends` says which rows it
        mends; what does not stays. A row comes in once: replayed again, it is not there any more and nothing changes.
        `rows` names each row by `_version` and `_row`; a value that it does not mention stays as it came. Raises InvalidInput
        where it cannot be understood, NotFound where it names a row that was never kept out.
        """
        declared, head = self._declared(dataset.name), self._head(dataset.name)
        if rows is not None:
            mending.check_places(rows, self.quarantine(dataset.name).select(mending.PLACE))
        written, contract = self._contract(declared)
        loads = list(self._waiting(dataset.name, head, rows))
        now = to_millis(act.now)
        found = quarantine.replay(iter(loads), contract, declared.known, now, Around(self._references(contract, now)))
        if not found.good.height:
            return self._unmended(act, dataset.bare, contract, found)
        ref = declared.ref.at(head.version + 1)
        like = self._profile(dataset.name, head.version)
        good = self._keeping.write(declared, contract, lambda: iter([found.good]), like)
        digest = self.blobs.put(parquet(found.places))
        empty = Judged((), (), (), found.tried, 0, "", lambda: iter(()), lambda: iter(()))
        load = Load(
            head, head.watermark or now, contract, written, empty, {"namespace": "falaj", "name": f"quarantine/{ref.name}"}
        )
        labels = {**self._keeping.labels(load, since=head.watermark), **self._keeping.shape(contract, good), MENDS: digest}
        asset = Asset(ref, good.digest, good.digest, self.zone, labels, created_at=act.now)
        rest = found.tried - found.good.height
        reason = f"{count(found.good.height)} mended, {rest:,} still broken"
        decision = Decision(ref, RULE, "allow", found.checks, act.actor, act.now, reason)
        with act.change(ref) as draft:
            _still(draft, declared.ref, head)
            draft.put("asset", str(ref), asset)
            rows_now = head.known_rows + good.rows
            draft.put("head", str(declared.ref), replace(head, version=head.version + 1, mended=now, known_rows=rows_now))
            draft.decide(decision)
            draft.note(rows=found.good.height, still_broken=rest, digest=asset.digest, mends=digest, contract=contract.digest)
        return decision

    @action("dataset.watch")
    def watch(self, act: Act, dataset: Ref, *, now: datetime) -> Decision | None:
        """Whether the contract's promises (freshness, latency, volume) are kept; None where it makes none. Rows stay as they are.

        Recorded where the answer is another than before.
        """
        declared = self._declared(dataset.name)
        decision = sla.kept(declared, self._contract(declared)[1], self._head(dataset.name), now)
        if decision is not None and self._is_news(decision):
            with act.change() as draft:
                draft.decide(decision)
                draft.note(verdict=decision.verdict)
        return decision

    def around(self, name: str, until: datetime) -> Around:
        """What a load is judged by beside its own rows: other datasets' values, the load before, the last good snapshot."""
        return self._around(self._declared(name), self.contract(name), self._head(name), until)

    def _load(self, declared: Dataset, head: Head, until: datetime, space: Space) -> Load:
        written, contract = self._contract(declared)
        source = self.source(declared.name)
        inputs = declared.source.inputs if isinstance(declared.source, Derived) else ()
        self._check_kept_personal(declared, contract, inputs)
        taken_from = tuple(Ref("dataset", name, str(self._head(name).version)) for name in inputs if self._head(name).version)
        table = self._table(declared, contract, head, until) if declared.brings_all else None
        late = self._late(declared, contract, head, until)
        frames = pieces(source, declared, late.start if late else head.watermark, until, hides=bool(contract.personal))
        admitted = self._admitted(declared.name, contract)
        if admitted:
            frames = admitted.sift(frames)
        if late:
            frames = late.sift(recut(frames, self.part_rows), lambda kept: take(kept, space, self.part_rows, "unlike"))
        rows = take(frames, space, self.part_rows)
        new = tuple(sorted(name for name in rows.schema if name not in contract.kinds and not name.startswith("_")))
        by = By(
            contract, () if table else promise(declared, head.watermark, until), self._around(declared, contract, head, until),
            new if declared.new_columns == "allow" else (),
        )  # fmt: skip
        judged = judge(rows, by, space)
        held = _columns_refused(declared, contract, new)
        origin = labels_of(source.origin)
        return Load(head, until, contract, written, judged, origin, taken_from, table, late, admitted, held)

    def _table(self, declared: Dataset, contract: Contract, head: Head, until: datetime) -> Table:
        key = key_of(contract, declared.name)
        held = self._keyed(declared, contract, until) if head.known_rows else None
        return Table(held, key, declared.known, self.quarantine(declared.name) if head.version else None)

    def _late(self, declared: Dataset, contract: Contract, head: Head, until: datetime) -> Late | None:
        if not declared.late or head.watermark is None:
            return None
        start = head.watermark - length(declared.late)
        kept = [each for kind in ("dataset", "quarantine") for each in self.snapshots.assets(kind, declared.name, head.version)]
        came = pools(self.snapshots, kept, (contract, declared.known), start)
        return Late(contract, declared.known, start, head.watermark, until, came)

    def _around(self, declared: Dataset, contract: Contract, head: Head, until: datetime) -> Around:
        drifts = any(quality.metric == "drift" for quality in contract.checks)
        like = self._profile(declared.name, head.load_version, "load_profile") if drifts else None
        return Around(self._references(contract, until), head.load_rows, like)

    def _references(self, contract: Contract, until: datetime) -> dict[tuple[str, str], pl.Series]:
        """Of each column that the contract refers to, every value that is known by then."""
        found: dict[tuple[str, str], pl.Series] = {}
        for column in contract.columns:
            if column.references is None or column.references in found:
                continue
            dataset, other = column.references
            if not self._head(self._declared(dataset).name).version:
                raise Unavailable(
                    f"{contract.name}.{column.name} refers to {dataset!r}, of which nothing was taken in yet.",
                    f"falaj dataset ingest {dataset}",
                )
            rows = self.scan(dataset, until=until, by="known")
            names = rows.collect_schema().names()
            if other not in names:
                raise NotFound.named(f"column of {dataset!r}", other, names)
            values = rows.select(pl.col(other).cast(KINDS[column.kind])).unique().collect(engine="streaming")
            found[column.references] = values[other].drop_nulls()
        return found

    def _waiting(self, name: str, head: Head, given: pl.DataFrame | None) -> Iterator[tuple[pl.DataFrame, pl.DataFrame | None]]:
        """The rows that wait, load by load, each as mended where `given` mends it, beside what of that load came in."""
        good = self.snapshots.assets("dataset", name, head.version)
        done = quarantine.mended(self.blobs, good)
        for asset in self.snapshots.assets("quarantine", name, head.version):
            rows = quarantine.waiting(quarantine.rows_of(self.snapshots, asset), done)
            rows = mending.merged(rows, given, self.datasets[name].source) if given is not None else rows
            if rows.height:
                own = next((each for each in good if each.ref.version == asset.ref.version), None)
                yield rows, self.snapshots.frame(own) if own else None

    def _unmended(self, act: Act, dataset: Ref, contract: Contract, found: Mended) -> Decision:
        """Nothing came in. Where there was something to replay, that is a refusal, with its evidence."""
        if not found.tried:
            return Decision(dataset, RULE, "allow", (), act.actor, act.now, "nothing to mend")
        reason = f"none of {count(found.tried)} keeps the contract"
        decision = Decision(dataset, "replay", "deny", found.checks, act.actor, act.now, reason)
        findings = report.without(found.findings, contract.personal)
        told = report.write(self.blobs, dataset, None, found.checks, findings)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(rows=found.tried, verdict="deny", report=told)
        return decision

    def _refuse(self, act: Act, dataset: Ref, load: Load) -> Decision:
        judged = load.judged
        verdict: Verdict = "deny"
        checks, reason = judged.checks, judged.stopped
        if not reason:
            waits = self.datasets[dataset.name].new_columns == "hold"
            checks = (Check("new columns", "none that the contract does not name", load.held, None if waits else False), *checks)
            verdict = "hold" if waits else "deny"
            reason = f"{load.held}; name them in the contract" + (", or set new_columns to drop or allow" if waits else "")
        decision = Decision(dataset, RULE, verdict, checks, act.actor, act.now, reason)
        body = self._refusal(dataset)
        before = decode(Decision, body) if body is not None else None
        if before is not None and (before.verdict, before.checks, before.reason) == (
            decision.verdict, decision.checks, decision.reason,
        ):  # fmt: skip
            return before  # told already: a source that stays broken must not fill the ledger
        told = self._report(dataset, load) if judged.findings else ""
        with act.change() as draft:
            draft.decide(decision)
            if told:
                draft.put("report", str(dataset), {"report": told, "until": load.until})
            draft.note(rows=judged.rows, verdict=decision.verdict, contract=load.contract.digest, until=load.until)
            draft.note(**({"report": told} if told else {}))
        return decision

    def _keep(self, act: Act, declared: Dataset, load: Load) -> Decision:
        """Blobs first, the record last: a crash in between leaves bytes that no record names."""
        kept = self._keeping.keep(declared, load, self._profile(declared.name, load.head.version)) if load.judged.rows else None
        if kept is None or (load.table is not None and not kept.is_new):
            return self._move(act, declared, load, kept.gone if kept else 0)
        ref, head = declared.ref.at(load.head.version + 1), after(load.head, load, kept.good)
        decision = _taken_in(ref, act, load, kept, self._changed(declared, load))
        told = self._report(ref, load)
        good, bad = self._assets(ref, load, kept, {"report": told} if told else {}, act.now)
        with act.change(ref) as draft:
            _still(draft, declared.ref, load.head, clears=True)
            draft.put("asset", str(ref), good)
            if bad is not None:
                draft.put("asset", str(bad.ref), bad)
            draft.put("head", str(declared.ref), head)
            draft.decide(decision)
            self._promise(draft, declared, load.contract, head, act.now)
            draft.note(rows=kept.good.rows, quarantined=kept.bad.rows if kept.bad else 0, digest=good.digest)
            draft.note(contract=load.contract.digest, until=load.until)
        return decision

    def _report(self, about: Ref, load: Load) -> str:
        findings = report.without(load.judged.findings, load.contract.personal)
        return report.write(self.blobs, about, load.until, load.judged.every, findings)

    def _assets(self, ref: Ref, load: Load, kept: Kept, told: Mapping[str, Any], now: datetime) -> tuple[Asset, Asset | None]:
        labels = {**self._keeping.labels(load, since=load.head.watermark), **told}
        own = {**labels, **self._keeping.shape(load.contract, kept.good), "load_rows": load.judged.rows}
        own |= load.late.label(self.snapshots, ref.name) if load.late else {}
        if load.table is not None:
            own["load_profile"] = self._keeping.whole_profile(load, kept.good)
        good = Asset(ref, kept.good.digest, kept.good.digest, self.zone, own, load.inputs, created_at=now)
        if kept.bad is None:
            return good, None
        parts = {"parts": kept.bad.parts} if kept.bad.parts > 1 else {}
        aside, rest = Ref("quarantine", ref.name, ref.version), {**labels, "rows": kept.bad.rows, **parts, **kept.bad.form}
        return good, Asset(aside, kept.bad.digest, kept.bad.digest, self.zone, rest, load.inputs, created_at=now)

    def _move(self, act: Act, declared: Dataset, load: Load, gone: int) -> Decision:
        """No new rows: the watermark moves, and nothing else."""
        head = replace(load.head, watermark=load.until)
        with act.change() as draft:
            _still(draft, declared.ref, load.head, clears=True)
            draft.put("head", str(declared.ref), head)
            self._promise(draft, declared, load.contract, head, act.now)
            draft.note(rows=0, until=load.until, **({"gone": gone} if gone else {}))
        return Decision(declared.ref, RULE, "allow", load.judged.checks, act.actor, act.now, "no new rows")

    def _changed(self, declared: Dataset, load: Load) -> Check | None:
        """Tells of a contract that is another than at the load before, under the same version."""
        body = self.kernel.ledger.get("asset", str(declared.ref.at(load.head.version))) if load.head.version else None
        held = decode(Asset, body) if body is not None else None
        if held is None or held.labels.get("contract") == load.contract.digest:
            return None
        return unversioned(before([held], self.blobs), load.contract)

    def _promise(self, draft: Draft, declared: Dataset, contract: Contract, head: Head, now: datetime) -> None:
        """What the load means for the contract's promises, where that is news."""
        decision = sla.kept(declared, contract, head, now)
        if decision is not None and self._is_news(decision):
            draft.decide(decision)

    def _is_news(self, decision: Decision) -> bool:
        """Whether another answer stood before. How old the newest row is changes all the time; that it is too old does not."""
        body = self.kernel.ledger.get("decision", f"{decision.subject}|{decision.rule}")
        before = decode(Decision, body) if body is not None else None
        return before is None or (before.verdict, _failed(before)) != (decision.verdict, _failed(decision))


def _repeated(dataset: Ref, head: Head, watermark: datetime, act: Act) -> Decision:
    seen, by = iso(watermark), dataset.at(head.load_version or head.version) if head.version else None
    reason = f"nothing to take in: everything until {seen} was taken in" + (f" by {by}" if by else "")
    check = Check("watermark", "later than before", seen, None)
    return Decision(by or dataset.bare, RULE, "allow", (check,), act.actor, act.now, reason)


def _failed(decision: Decision) -> tuple[str, ...]:
    return tuple(item.name for item in decision.failed)


def _taken_in(ref: Ref, act: Act, load: Load, kept: Kept, changed: Check | None) -> Decision:
    checks = (*load.judged.checks, *([changed] if changed else []))
    if load.table is not None:
        checks = (*checks, Check("info: rows that the source no longer has", "told, and kept", f"{kept.gone:,}", kept.gone == 0))
    late = load.late.count if load.late else 0
    if late:
        checks = (*checks, Check("info: rows that came late", "told, and known from this load on", count(late), True))
    again = load.admitted.count if load.admitted else 0
    if again:
        checks = (*checks, Check("info: rows of erased people", "told, and left out", count(again), True))
    reason = f"{count(kept.good.rows)} taken in" + (f", {kept.bad.rows:,} in quarantine" if kept.bad else "")
    reason += f"; late: {count(late)}" if late else ""
    return Decision(ref, RULE, "allow", checks, act.actor, act.now, reason)


def _still(draft: Draft, dataset: Ref, head: Head, *, clears: bool = False) -> None:
    """Reads the head again under the write lock: of two that took in the same period, one is refused. A standing deny ends."""
    body = draft.get("head", str(dataset))
    if (Head() if body is None else decode(Head, body)) != head:
        raise Conflict(f"{dataset} was taken in by somebody else meanwhile.", "call ingest again.")
    if not clears:
        return
    for kind, key in (("decision", f"{dataset}|{RULE}"), ("report", str(dataset))):
        if draft.get(kind, key) is not None:
            draft.remove(kind, key)


def _columns_refused(declared: Dataset, contract: Contract, new: tuple[str, ...]) -> str:
    """Why a load with columns that the contract does not name may not come in; empty where it may."""
    if new and declared.new_columns in ("hold", "deny"):
        return f"new columns: {', '.join(new)[:300]}"
    if declared.new_columns == "allow" and (len(new) + len(contract.columns) > MOST_COLUMNS or any(len(n) > 64 for n in new)):
        return f"{len(new)} new columns, more or longer than {MOST_COLUMNS} of 64 characters"
    return ""
