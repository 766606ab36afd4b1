"""How a rollout decides: closed blocks of counts in, the next status and a Decision with every figure out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from falaj.core.decision import Check, Decision
from falaj.core.moments import from_millis, length
from falaj.core.ref import Ref
from falaj.stages.rollouts import eprocess
from falaj.stages.rollouts.eprocess import SPLIT_LIMIT, Band, Counts, Evidence, Split
from falaj.stages.rollouts.spec import Canary

LIVE = frozenset({"running", "held"})
SEEN_FROM_LABELS = frozenset({"wrong"})
_LN10 = math.log(10)


@dataclass(frozen=True, slots=True)
class Block:
    """A closed cohort as one guard sees it: the only input of the tests. Pairs are (champion, challenger).

    It lies within one step, for a cohort is cut wherever the share changes. A unit is counted once in a whole rollout, at
    its first prediction; predictions whose arm was forced, or that have no label where the guard needs one, are left out.
    """

    guard: str
    step: int
    start_ms: int
    end_ms: int
    units: Counts
    bad: Counts
    assigned: Counts
    """Units with and without a label."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """A time with one share."""

    step: int
    share: float
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """What is known about one guard."""

    name: str
    harm: Evidence
    inferior: Evidence
    band: Band = field(default_factory=Band)
    units: Counts = (0, 0)
    bad: Counts = (0, 0)
    assigned: Counts = (0, 0)
    step_units: Counts = (0, 0)
    """Units of the present step alone."""
    fed_ms: int = 0
    """Blocks that end here or earlier have been counted."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a rollout stands. state: running, held (running, but a person should look), promoted, rolled_back or aborted."""

    state: str
    step: int
    reason: str
    guards: tuple[Guard, ...]
    epochs: tuple[Epoch, ...]
    split: Split = field(default_factory=Split)
    labelled_split: Split = field(default_factory=Split)

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    @property
    def share(self) -> float:
        """The challenger's."""
        return {"promoted": 1.0, "rolled_back": 0.0, "aborted": 0.0}.get(self.state, self.epochs[-1].share)


def begin(plan: Canary, now: datetime) -> Status:
    """The first step of a rollout that begins now."""
    guards = tuple(Guard(name, eprocess.begin(len(plan.steps)), eprocess.begin()) for name in plan.guards)
    return Status("running", 0, "begun", guards, (Epoch(0, plan.steps[0], now),))


def advance(
    plan: Canary, status: Status, blocks: Iterable[Block], now: datetime, *, subject: Ref, order: str = ""
) -> tuple[Status, Decision]:
    """The next status, and why. In this order: a person's order (`abort`), a split that is not the one asked for (hold), harm
    (take back), proof that no guard is worse (next step, promotion), and the time limit (hold).

    Failures come before the split: requests that fail again and again are themselves what bends the split, and taking the
    challenger back is always safe. Blocks that were counted before are passed over, so the same blocks may be given again.
    """
    status = feed(plan, status, blocks)
    found = Decision(subject, "rollout", "hold", tuple(_checks(plan, status, now)), at=now)
    if order == "abort":
        return _moved(status, "aborted", replace(found, verdict="deny", reason="a person took it back"))
    harmed = [guard.name for guard in status.guards if _is_harmed(plan, guard)]
    skewed = _is_skewed(status)
    if "failure" in harmed or (harmed and not skewed):
        return _moved(
            status, "rolled_back", replace(found, verdict="deny", reason=f"the challenger is worse: {', '.join(harmed)}")
        )
    if skewed:
        return _moved(status, "held", replace(found, reason="the arms do not get the shares that were asked for"))
    if now - status.epochs[0].since > length(plan.max_time):
        return _moved(status, "held", replace(found, reason="inconclusive within the time allowed: a person decides"))
    if not _is_step_done(plan, status, now):
        return _moved(status, "running", replace(found, reason="more evidence is needed"))
    if status.step + 1 < len(plan.steps):
        return _next_step(plan, status, now), replace(found, verdict="allow", reason=_step_reason(plan, status.step + 1))
    if all(_is_proven(plan, guard) for guard in status.guards):
        return _moved(status, "promoted", replace(found, verdict="allow", reason="no guard is worse than its margin"))
    return _moved(status, "running", replace(found, reason="more evidence is needed"))


def feed(plan: Canary, status: Status, blocks: Iterable[Block]) -> Status:
    """The status with the evidence of every block that it has not counted yet."""
    guards = {guard.name: guard for guard in status.guards}
    split, labelled = status.split, status.labelled_split
    leader = next((name for name in guards if name not in SEEN_FROM_LABELS), next(iter(guards)))
    for block in sorted(blocks, key=lambda b: (b.end_ms, b.guard)):
        guard = guards.get(block.guard)
        if guard is None or block.end_ms <= guard.fed_ms or block.step >= len(status.epochs):
            continue
        share = status.epochs[block.step].share
        if block.guard == leader:
            split = eprocess.assign(split, block.assigned, share)
        if block.guard in SEEN_FROM_LABELS:
            labelled = eprocess.assign(labelled, block.units, share)
        guards[block.guard] = _count(plan, guard, block, status.step)
    return replace(status, guards=tuple(guards.values()), split=split, labelled_split=labelled)


def threshold_of_harm(plan: Canary) -> float:
    """log(K/α): with K guards, any of which may take the challenger back, each gets its part of the error (e-Bonferroni)."""
    return math.log(len(plan.guards) / plan.error)


def threshold_of_proof(plan: Canary) -> float:
    """log(1/α): promotion needs every guard, so none of the error has to be shared out (intersection–union)."""
    return math.log(1 / plan.error)


def log10(value: float) -> float:
    return round(value / _LN10, 4)


def _count(plan: Canary, guard: Guard, block: Block, step: int) -> Guard:
    started = block.step + 1
    tolerance, margin = plan.tolerance_of(guard.name), plan.margin_of(guard.name)
    return Guard(
        guard.name,
        eprocess.update(guard.harm, block.units, block.bad, side="harm", delta=tolerance, started=started),
        eprocess.update(guard.inferior, block.units, block.bad, side="inferior", delta=margin),
        eprocess.widen(guard.band, block.units, block.bad),
        _add(guard.units, block.units),
        _add(guard.bad, block.bad),
        _add(guard.assigned, block.assigned),
        _add(guard.step_units, block.units) if block.step == step else guard.step_units,
        block.end_ms,
    )


def _is_harmed(plan: Canary, guard: Guard) -> bool:
    return guard.harm.peak >= threshold_of_harm(plan)


def _is_proven(plan: Canary, guard: Guard) -> bool:
    return guard.inferior.peak >= threshold_of_proof(plan)


def _is_skewed(status: Status) -> bool:
    return max(status.split.peak, status.labelled_split.peak) >= math.log(SPLIT_LIMIT)


def _is_step_done(plan: Canary, status: Status, now: datetime) -> bool:
    enough = all(min(guard.step_units) >= plan.step_units for guard in status.guards)
    return enough and now - status.epochs[-1].since >= length(plan.step_time)


def _step_reason(plan: Canary, step: int) -> str:
    return f"step {step + 1} of {len(plan.steps)}: {plan.steps[step]:.0%} of the units"


def _next_step(plan: Canary, status: Status, now: datetime) -> Status:
    step = status.step + 1
    epochs = (*status.epochs[:-1], replace(status.epochs[-1], until=now), Epoch(step, plan.steps[step], now))
    guards = tuple(replace(guard, step_units=(0, 0)) for guard in status.guards)
    return replace(status, state="running", step=step, reason=_step_reason(plan, step), guards=guards, epochs=epochs)


def _moved(status: Status, state: str, decision: Decision) -> tuple[Status, Decision]:
    epochs = status.epochs
    if state not in LIVE:
        epochs = (*epochs[:-1], replace(epochs[-1], until=decision.at))
    return replace(status, state=state, reason=decision.reason, epochs=epochs), decision


def _checks(plan: Canary, status: Status, now: datetime) -> Iterable[Check]:
    limit = math.log(SPLIT_LIMIT)
    for name, split in (("split", status.split), ("split of labelled", status.labelled_split)):
        seen = f"E = {_power(split.log_e)}, {split.counts[0]}/{split.counts[1]} at {split.share:.0%}"
        yield Check(name, f"E < {SPLIT_LIMIT:.0f} at every look", seen, split.peak < limit)
    for guard in status.guards:
        yield from _guard_checks(plan, guard)
    elapsed, total = now - status.epochs[-1].since, now - status.epochs[0].since
    is_long_enough, is_late = elapsed >= length(plan.step_time), total > length(plan.max_time)
    yield Check("step time", f">= {plan.step_time}", f"{elapsed.total_seconds() / 3600:.1f}h", is_long_enough or None)
    yield Check("time allowed", f"<= {plan.max_time}", f"{total.total_seconds() / 86400:.1f}d", None if is_late else True)


def _guard_checks(plan: Canary, guard: Guard) -> Iterable[Check]:
    harm, proof = threshold_of_harm(plan), threshold_of_proof(plan)
    low, high = eprocess.interval(guard.band, plan.error)
    yield Check(
        f"{guard.name}: harm",
        f"E < {math.exp(harm):.0f} against +{plan.tolerance_of(guard.name):g}",
        f"E = {_power(guard.harm.log_e)}, most {_power(guard.harm.peak)}; {_rates(guard)}",
        not _is_harmed(plan, guard),
    )
    wait = eprocess.forecast(guard.inferior, proof, guard.units[1])
    more = "" if wait == 0 else "; no forecast yet" if wait is None else f"; roughly {wait} more challenger units"
    yield Check(
        f"{guard.name}: not worse",
        f"E >= {math.exp(proof):.0f} against +{plan.margin_of(guard.name):g}",
        f"E = {_power(guard.inferior.log_e)}, most {_power(guard.inferior.peak)}; difference {low:+.4f} to {high:+.4f}{more}",
        _is_proven(plan, guard) or None,
    )
    units, is_enough = f"{guard.step_units[0]}/{guard.step_units[1]}", min(guard.step_units) >= plan.step_units
    yield Check(f"{guard.name}: units of this step", f">= {plan.step_units} each", units, is_enough or None)
    if guard.name in SEEN_FROM_LABELS:
        pairs = zip(guard.units, guard.assigned, strict=True)
        shares = "/".join(f"{labelled / total:.3f}" if total else "none" for labelled, total in pairs)
        yield Check(f"{guard.name}: share with a label", "shown", shares, True if all(guard.assigned) else None)


def _rates(guard: Guard) -> str:
    pairs = zip(guard.bad, guard.units, strict=True)
    return " vs ".join(f"{bad / units:.4f} ({bad}/{units})" if units else "none" for bad, units in pairs)


def since(status: Status) -> datetime:
    """Until when the status has counted everything."""
    return from_millis(min(guard.fed_ms for guard in status.guards))


def _power(log_e: float) -> str:
    exponent = log_e / _LN10
    return f"{math.exp(log_e):.3g}" if abs(exponent) < 6 else f"10^{exponent:.1f}"


def _add(left: Counts, right: Counts) -> Counts:
    return (left[0] + right[0], left[1] + right[1])
