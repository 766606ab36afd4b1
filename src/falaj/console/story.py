"""What happened, told from the ledger alone: who served when, what rollouts showed, how models did, and what went wrong.

Words only: nothing here draws. The report and the summary are both made from a Story.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from falaj.core.decision import Check, Decision
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger

Points = tuple[tuple[datetime, float], ...]


class Told(Protocol):
    """What a story is told from: an open app, or anything that has its ledger and its blobs."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def blobs(self) -> Blobs: ...


@dataclass(frozen=True, slots=True)
class Served:
    """A model that answered everybody who was not part of a rollout."""

    model: str
    release: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """A time with one share of the traffic for the challenger."""

    share: float
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Guard:
    """What a rollout learned about one guard. Curves are log10 of the e-value; pairs are (champion, challenger)."""

    name: str
    harm: Points
    proof: Points
    units: tuple[int, int]
    bad: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Episode:
    """One rollout. `state`: running, held, promoted, rolled_back or aborted."""

    ref: str
    champion: str
    challenger: str
    started: datetime
    ended: datetime | None
    state: str
    reason: str
    steps: tuple[Step, ...]
    guards: tuple[Guard, ...]
    harm_at: float
    """log10 of the threshold at which the challenger is taken back."""
    proof_at: float
    """log10 of the threshold at which a guard counts as no worse."""
    checks: tuple[Check, ...]
    """Of the last look."""


@dataclass(frozen=True, slots=True)
class Input:
    """One feature in one window."""

    name: str
    distance: float
    drifted: bool
    missing: float
    unseen: float


@dataclass(frozen=True, slots=True)
class Look:
    """What a monitor saw in one window."""

    at: datetime
    model: str
    rows: int
    drift: str
    """The verdict: allow, hold or deny."""
    decay: str
    mean: float | None
    latency: Mapping[str, float | None]
    labelled: int
    wrong: float | None
    brier: float | None
    base_rate: float | None
    auc: tuple[float, float, float] | None
    """Value and 95 % interval."""
    memory: int | None
    cpu: float | None
    """Processor seconds of the server's process since it started."""
    inputs: tuple[Input, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """What a model's sealed holdout said when it began to serve everybody."""

    model: str
    since: datetime
    until: datetime
    wrong: float
    brier: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at one moment: drift, decay, retrain."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Watched:
    """One endpoint."""

    name: str
    served: tuple[Served, ...]
    episodes: tuple[Episode, ...]
    looks: tuple[Look, ...]
    promises: tuple[Promise, ...]
    marks: tuple[Mark, ...]

    @property
    def champion(self) -> Served | None:
        return self.served[-1] if self.served else None


@dataclass(frozen=True, slots=True)
class Alarm:
    """The life of an alert."""

    ref: str
    title: str
    severity: str
    state: str
    opened: datetime
    acknowledged: datetime | None
    acknowledged_by: str
    resolved: datetime | None
    resolved_by: str
    reason: str
    count: int

    @property
    def is_open(self) -> bool:
        return self.state != "resolved"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gates said of one candidate. `model`: the version that it became, or empty."""

    candidate: str
    model: str
    training: str
    at: datetime | None
    verdict: str
    reason: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Intake:
    """One dataset: what came in and what was kept out."""

    dataset: str
    snapshots: int
    rows: int
    quarantined: int
    until: datetime | None
    reasons: tuple[tuple[str, int], ...]
    """Why rows were kept out, most frequent first; one row may have several."""
    refused: str
    """Why the newest load was refused as a whole, or empty."""


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger itself. `verdict`: allow, hold, deny, or `unseen` where nobody verified it."""

    events: int
    checkpoints: int
    checkpoint: str
    verdict: str
    checks: tuple[Check, ...]
    sealed_rows: int
    """Lines of prediction logs under seals."""


@dataclass(frozen=True, slots=True)
class Story:
    project: str
    since: datetime
    until: datetime
    endpoints: tuple[Watched, ...]
    alarms: tuple[Alarm, ...]
    gates: tuple[Judged, ...]
    intakes: tuple[Intake, ...]
    books: Books


def story(app: Told, *, verified: Decision | None = None) -> Story:
    """The story of everything that the ledger holds. `verified`: what an audit said of it."""
    from falaj.console.chapters import tell

    return tell(app, verified)


def story_of(app: Any) -> Story:
    """The story of an open app, its ledger verified first where it can be."""
    audit = getattr(app, "audit", None)
    return story(app, verified=audit.verify() if audit is not None else None)
