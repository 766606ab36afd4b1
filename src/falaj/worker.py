"""The loop: what falaj does by itself, one round at a time. A round that was cut short is done again by the next."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from falaj.core.codec import decode
from falaj.core.decision import Check, Decision
from falaj.core.errors import Conflict, FalajError, MissingDependency, NotFound, Unavailable
from falaj.core.moments import iso, length, moment
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.ports.predictions import Cursor
from falaj.sampling import Sample
from falaj.upkeep import DUTIES, ROUND, WORKER, permit, refuse_unbound_duties

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.stages.governance.exports import Exports

log = logging.getLogger("falaj.worker")
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PARITY_EVERY = 3 * DAY
PARITY_ROWS = 100
COMPARE_EVERY = 3 * HOUR  # one view each time; every hour while one of them differs
"""How many predictions of each endpoint are compared with the snapshots each day."""


@dataclass(slots=True)
class Round:
    """What one round saw and did."""

    now: str
    running: int = 0
    """Runs that have not ended."""
    rollouts: list[str] = field(default_factory=list)
    """Rollouts under way."""
    open_alerts: list[str] = field(default_factory=list)
    """Alerts that nobody has acknowledged."""
    news: list[str] = field(default_factory=list)
    """What is worth a line to a person."""
    problems: list[str] = field(default_factory=list)
    """What did not work in this round and will be tried again."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Worker:
    """One worker per project does the rounds; the lock keeps two callers from doing the same round twice."""

    def __init__(self, app: App) -> None:
        """Raises Bug where a duty is bound to no right."""
        refuse_unbound_duties(app)
        self.app = app
        self._lock = threading.Lock()
        self._due: dict[str, datetime] = {}
        self._parity: dict[str, Cursor] = {}
        self._later: dict[str, list[Mapping[str, Any]]] = {}
        """endpoint → predictions that no snapshot has come to yet."""
        self._weighed: dict[str, int] = {}
        self._running: set[str] = set()
        self._exports: Exports | None = None
        self._turn = 0
        self._unwell: dict[str, bool] = {}
        """view → whether its stored rows differ from the snapshots, or did until its alert is resolved."""

    def tick(self, now: datetime) -> Round:
        """One round at the time `now`. Each duty stands alone: one that fails is told in `problems`, the others go on."""
        with self._lock:
            if self.app.clock.kind == "replay":
                self.app.clock.tell(now)
            done = Round(iso(now))
            for name, right in ROUND.items():
                with _told(done, name):
                    permit(self.app, right)
                    getattr(self, f"_{name}")(now, done)
            done.running = len(self.app.pipelines.live())
            return done

    def _recall(self, now: datetime, done: Round) -> None:
        """What is in quarantine answers nobody, whatever was to be served; before anything is served again."""
        done.news += self.app.governance.recall(WORKER)

    def _reconcile(self, now: datetime, done: Round) -> None:
        """After a crash anywhere: what is served is made what the ledger says."""
        self.app.governance.sealing.restored()
        self.app.rollouts.place.exclude()
        for endpoint in self.app.rollouts.reconcile():
            done.news.append(f"endpoint/{endpoint} was brought back to what the ledger says")

    def _ingest(self, now: datetime, done: Round) -> None:
        """Each dataset after those that it is made of or refers to; one whose source is away keeps no other from coming in."""
        from falaj.stages.contracts.derive import in_order

        for name in in_order(self.app.project.datasets, self._refers):
            every = length(self.app.project.datasets[name].every)
            until = EPOCH + (now - EPOCH) // every * every
            if not self._is_due(f"ingest {name}", until):
                continue
            with _told(done, f"ingest dataset/{name}"):
                self._take_in(Ref("dataset", name), until, now, done)
                self._due[f"ingest {name}"] = until

    def _refers(self, name: str) -> tuple[str, ...]:
        try:
            columns = self.app.contracts.contract(name).columns
        except FalajError:  # its own load tells what is wrong with its contract
            return ()
        return tuple(column.references[0] for column in columns if column.references is not None)

    def _take_in(self, dataset: Ref, until: datetime, now: datetime, done: Round) -> None:
        """One load. Three things may be wrong with it, each an alert of its own: the source, its columns, its rows."""
        try:
            decision = self.app.contracts.ingest(WORKER, dataset, until=until)
        except Conflict:
            raise  # somebody else took the same period in meanwhile: nothing is wrong
        except Exception as exc:
            if self._is_due(told := f"source of {dataset}", until):  # tried again each round, told once a period
                self._due[told] = until
                self._hear(_unread(dataset, exc, now), done, f"{dataset} could not be read")
            if isinstance(exc, NotFound | MissingDependency) or not self.app.contracts.contract(dataset.name).personal:
                raise
            # What is told of a round goes into logs; `from None`, or the log would tell it all the same.
            raise Unavailable("The load failed.", f"falaj dataset test {dataset.name} says why.") from None
        self._end(f"source|{dataset}", "a load was read whole")
        decision = replace(decision, subject=dataset)  # of a snapshot, where one was made; the alert is of the dataset
        if decision.verdict == "hold":
            waits = replace(decision, rule="columns", verdict="deny")
            self._hear(waits, done, f"{dataset.name} waits: {decision.reason}", severity="info")
            return
        self._end(f"columns|{dataset}", "the load does not wait any more")
        self._hear(decision, done, f"{dataset.name} was refused by its contract")

    def _end(self, key: str, reason: str) -> None:
        """Resolves the alert of the key, where one is open: one look is proof."""
        alert = self.app.alerts.open_for(key)
        if alert is not None:
            self.app.alerts.resolve(WORKER, alert.ref, reason=reason)

    def _watch_data(self, now: datetime, done: Round) -> None:
        """Whether what the contracts promise of freshness, latency and volume is kept."""
        for name in self.app.project.datasets:
            decision = self.app.contracts.watch(WORKER, Ref("dataset", name), now=now)
            if decision is not None:
                self._hear(decision, done, f"{name} does not keep its promises: {decision.reason}")

    def _refresh(self, now: datetime, done: Round) -> None:
        """The online store, to the newest grid point."""
        self.app.features.refresh(now)

    def _materialise(self, now: datetime, done: Round) -> None:
        """Once a day an event that sums up what was put of each view; a view that is refused keeps no other from its own."""
        if self._is_due("materialise", day := _floor(now, DAY)):
            self._due["materialise"] = day
            for view in self.app.project.views:
                with _told(done, f"materialise view/{view}"):
                    self.app.features.materialise(WORKER, Ref("view", view), until=now)

    def _compare(self, now: datetime, done: Round) -> None:
        """One view in turn: some stored rows are read, and compared once snapshots have come to that time.

        An event is left once a day, when something is wrong, and from then on at each turn until the alert is resolved.
        """
        views = list(self.app.project.views)
        turn = _floor(now, HOUR if any(self._unwell.values()) else COMPARE_EVERY)
        if not views or not self._is_due("compare", turn):
            return
        self._due["compare"] = turn
        self._turn += 1
        name = views[self._turn % len(views)]
        tally = self.app.features.sample(name, now, random.Random(f"{name} {iso(now)}").sample)  # noqa: S311  # not a secret
        if name not in self._unwell:
            self._unwell[name] = self.app.alerts.open_for(f"parity|view/{name}") is not None
        told = f"compare {name}"
        if not tally.rows or not (self._unwell[name] or not tally.is_clear or self._is_due(told, _floor(now, DAY))):
            return
        self._due[told] = _floor(now, DAY)
        decision = self.app.features.compare(WORKER, Ref("view", name))
        self._hear(decision, done, decision.reason)
        self._unwell[name] = decision.verdict == "deny" or (
            self._unwell[name] and self.app.alerts.open_for(f"parity|view/{name}") is not None
        )

    def _watch_runs(self, now: datetime, done: Round) -> None:
        self.app.pipelines.watch(WORKER)
        live = {run.id for run in self.app.pipelines.live()}
        for run_id in sorted(self._running - live):
            self._tell_run(self.app.pipelines.get(run_id), done)
        self._running = live
        for endpoint in self.app.project.endpoints.values():
            if self.app.ledger.get("endpoint", endpoint.name) is None or self.app.rollouts.busy(endpoint.name):
                continue
            waiting = self._waiting(endpoint.model)
            if waiting:
                rollout = self.app.rollouts.start(
                    WORKER, Ref("endpoint", endpoint.name), challenger=waiting[0], seed=int(self.app.settings.seed),
                    slow_ms=self.app.monitors.usual_latency(endpoint.name, now),
                )  # fmt: skip
                done.news.append(f"{waiting[0]} passed its gates and starts as a canary: {rollout}")

    def _tell_run(self, run: Run, done: Round) -> None:
        """How a run ended that was under way in the last round."""
        if run.state == "failed":
            self._hear(_run_failed(run), done, f"run/{run.id} failed: {(run.failure or '')[:200]}")
        for candidate in (ref for ref in run.outputs if ref.kind == "candidate"):
            decision = self.app.gates.decision(candidate)
            if not decision.allowed:
                done.news.append(f"{candidate} is not registered, its gate says {decision.verdict}: {decision.reason}")

    def _waiting(self, model: str) -> list[Ref]:
        """Models that a release run registered, that people agree on as far as their tier asks for it, and that were never rolled
        out, promoted or deployed; oldest first."""
        ledger = self.app.ledger
        met = {str(body["model"]) for kind in ("alias", "release") for _, body in ledger.find(kind)}
        made = [
            ref for run in self.app.pipelines.listing() if run.step == "release" for ref in run.outputs if ref.kind == "model"
        ]
        fresh = [ref for ref in made if ref.name == model and str(ref) not in met and self.app.rollouts.place.is_agreed(ref)]
        return sorted(fresh, key=lambda ref: int(ref.version or 0))

    def _follow(self, now: datetime, done: Round) -> None:
        for name in self.app.project.endpoints:
            if self.app.ledger.get("endpoint", name) is not None:
                self.app.monitors.follow(name, now)

    def _roll_out(self, now: datetime, done: Round) -> None:
        for name in self.app.project.endpoints:
            rollout = self.app.rollouts.live(name)
            if rollout is None:
                continue
            blocks = self.app.monitors.blocks(rollout)
            before = self.app.rollouts.show(rollout)["status"]
            if self._weighed.get(str(rollout)) != len(blocks) or self._is_due(f"look {rollout}", _floor(now, DAY)):
                decision = self.app.rollouts.look(WORKER, rollout, blocks=blocks, now=now)
                self._weighed[str(rollout)] = len(blocks)
                self._due[f"look {rollout}"] = _floor(now, DAY)
                self._tell_rollout(rollout, before, decision, done)
            if self.app.rollouts.live(name) is not None:
                done.rollouts.append(str(rollout))

    def _tell_rollout(self, rollout: Ref, before: Any, decision: Decision, done: Round) -> None:
        record = self.app.rollouts.show(rollout)
        status = record["status"]
        if (status["state"], status["step"]) == (before["state"], before["step"]):
            return
        share = status["epochs"][-1]["share"]
        what = {
            "running": f"moves on to {share:.0%} of the traffic",
            "rolled_back": "is TAKEN BACK",
            "promoted": "is PROMOTED",
            "held": "is held",
        }
        done.news.append(f"{record['challenger']} {what.get(status['state'], status['state'])} ({rollout}): {decision.reason}")
        if status["state"] in ("rolled_back", "held"):
            self.app.alerts.raise_from(WORKER, decision)

    def _monitor(self, now: datetime, done: Round) -> None:
        for monitor in self.app.project.monitors.values():
            subject = Ref("monitor", monitor.endpoint)
            champion = self._champion(monitor.endpoint)
            if champion is None:
                continue
            record = self.app.ledger.get("monitor", monitor.endpoint)
            if record is None or record["model"] != str(champion):
                reference, promise = self.app.normal_of(champion, self.app.project.endpoints[monitor.endpoint].threshold)
                self.app.monitors.start(WORKER, subject, model=champion, reference=reference, promise=promise)
            elif self.app.monitors.is_due(subject, now):
                for decision in self.app.monitors.look(WORKER, subject, now=now):
                    self._hear(decision, done, f"{decision.rule} on {monitor.endpoint}: {decision.reason}")

    def _champion(self, endpoint: str) -> Ref | None:
        record = self.app.ledger.get("endpoint", endpoint)
        if record is None:
            return None
        return next(Ref.parse(arm["model"]) for arm in record["wanted"]["arms"] if arm["role"] == "champion")

    def _retrain(self, now: datetime, done: Round) -> None:
        for monitor in self.app.project.monitors.values():
            wish = self.app.monitors.wants_retrain(Ref("monitor", monitor.endpoint))
            champion = self._champion(monitor.endpoint)
            if wish is None or champion is None or self.app.rollouts.live(monitor.endpoint):
                continue
            reason, since = wish
            run = Ref("run", f"retrain-{monitor.endpoint}-{since:%Y%m%d%H%M%S}")
            if self.app.ledger.get("run", run.name) is None:
                training = self.app.registry.get(champion)["training"]
                params = {"training": training, "at": iso(now), "reason": reason}
                self.app.pipelines.start(WORKER, run, step="release", params=params)
                done.news.append(f"{reason} asks for a new model: {run}")

    def _keep_books(self, now: datetime, done: Round) -> None:
        """Seals into the ledger once an hour; now and then the parity of what predictions read."""
        if self._is_due("seals", hour := _floor(now, HOUR)):
            for name in self.app.project.endpoints:
                if seals := self.app.serving.unsealed(name):
                    self.app.serving.seal(WORKER, Ref("endpoint", name), seals=seals)
            self._due["seals"] = hour
        if self._is_due("parity", due := _floor(now, PARITY_EVERY)):
            for name in self.app.project.endpoints:
                self._verify_features(name, now, done)
            self._due["parity"] = due

    def _keep_house(self, now: datetime, done: Round) -> None:
        """What `falaj.upkeep` lists, each by itself; one that fails is tried again in the next round."""
        for duty in DUTIES:
            if self._is_due(f"keep {duty.name}", at := _floor(now, duty.every)):
                with _told(done, duty.name):
                    permit(self.app, duty.right)
                    done.news += duty.do(self.app, now)
                    self._due[f"keep {duty.name}"] = at

    def _verify_features(self, endpoint: str, now: datetime, done: Round) -> None:
        """Logged features of a sample of the predictions since the last time, against the offline truth.

        Predictions that the snapshots have not come to yet wait for the next time, a sample of them.
        """
        champion = self._champion(endpoint)
        if champion is None:
            return
        recipe = decode(Recipe, self.app.registry.manifest(champion)["recipe"])
        covered = self.app.features.covered(recipe.views)
        ready, later = (Sample(PARITY_ROWS, random.Random(f"{iso(now)}{kind}")) for kind in "rl")  # noqa: S311  # no secret
        for record in self._later.get(endpoint, []):
            (ready if _is_covered(record, covered) else later).add(record)
        cursor = self._parity.get(endpoint, Cursor())
        for at, record in self.app.predictions_of(endpoint).follow(cursor):
            cursor = at
            if record.get("kind") == "prediction" and record.get("model") == str(champion) and record.get("request"):
                (ready if _is_covered(record, covered) else later).add(record)
        self._parity[endpoint], self._later[endpoint] = cursor, later.kept
        if ready.kept:
            decision = self.app.features.verify(WORKER, Ref("endpoint", endpoint), records=ready.kept, recipe=recipe)
            self._hear(decision, done, f"online and offline features of {endpoint} differ: {decision.reason}")

    def _deliver(self, now: datetime, done: Round) -> None:
        self.app.alerts.deliver_due(WORKER, now)
        done.open_alerts = [str(alert.ref) for alert in self.app.alerts.all() if alert.state == "open"]

    def _tell_lineage(self, now: datetime, done: Round) -> None:
        """New events to the OpenLineage collector, where there is one."""
        if self._exports is None and self.app.settings.openlineage:
            from falaj.openlineage import exports_of

            self._exports = exports_of(self.app)
        if self._exports is not None:
            self._exports.export(WORKER, Ref("lineage", "openlineage"))

    def _hear(self, decision: Decision, done: Round, line: str, *, severity: str = "warning") -> None:
        """A denial opens an alert or counts it once more, enough clear looks resolve it."""
        is_new = self.app.alerts.open_for(f"{decision.rule}|{decision.subject}") is None
        if self.app.alerts.raise_from(WORKER, decision, severity=severity) and is_new:
            done.news.append(line)

    def _is_due(self, what: str, at: datetime) -> bool:
        return self._due.get(what, EPOCH) < at


@contextmanager
def _told(done: Round, duty: str) -> Iterator[None]:
    try:
        yield
    except FalajError as exc:
        done.problems.append(f"{duty}: {exc}")
    except Exception as exc:
        # A bug in one duty must not keep the others from, say, taking a bad model back.
        log.exception("the duty %s failed", duty)
        done.problems.append(f"{duty}: a bug, {type(exc).__name__}: {exc}")


def _unread(dataset: Ref, exc: Exception, now: datetime) -> Decision:
    """Of the error only its kind, unless it speaks of names alone: what a source says may hold a value of a row."""
    kind = exc.code if isinstance(exc, FalajError) else "bug"
    seen = exc.message if isinstance(exc, NotFound | MissingDependency) else kind
    reason = f"it could not be taken in: {seen[:300]}; falaj dataset test {dataset.name} says why"
    checks = (Check("source", "is read whole", seen[:300], passed=False),)
    return Decision(dataset, "source", "deny", checks, WORKER, now, reason)


def _is_covered(record: Mapping[str, Any], covered: datetime | None) -> bool:
    return covered is not None and moment(record["at"]) <= covered


def _floor(now: datetime, span: timedelta) -> datetime:
    return EPOCH + (now - EPOCH) // span * span


def _run_failed(run: Run) -> Decision:
    return Decision(Ref("run", run.id), "run", "deny", at=run.ended_at, reason=(run.failure or "it died without a word")[-500:])
