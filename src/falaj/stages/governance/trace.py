"""Trace: one prediction, back to the rows, the code, the people and the approvals, every step proven or said not to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from falaj.core.asset import Asset
from falaj.core.decision import Check, Verdict, judge
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.note import Verifier
from falaj.core.recipe import Recipe
from falaj.core.segment import PredictionId
from falaj.core.succession import Succession
from falaj.ports.blobs import Blobs
from falaj.ports.evidence import Evident
from falaj.ports.predictions import Predictions
from falaj.stages.action import Kernel
from falaj.stages.governance.hop import Hop, HopDraft
from falaj.stages.governance.proofs import Proofs

if TYPE_CHECKING:
    from falaj.stages.contracts.service import Contracts
    from falaj.stages.features.service import Features


@dataclass(frozen=True, slots=True)
class Approval:
    """Who let something pass, in which event."""

    what: str
    by: str
    at: datetime
    event: int


@dataclass(frozen=True, slots=True)
class Traced:
    """`verdict`: allow, all is proven; hold, something could not be seen (yet); deny, something is missing or was changed."""

    prediction: str
    endpoint: str
    verdict: Verdict
    hops: tuple[Hop, ...]
    approvals: tuple[Approval, ...]
    ledger: tuple[Check, ...]
    """Whether the ledger as a whole is what it was."""
    checkpoint: str
    """The signed text that all proofs end in; compare it with one that was kept elsewhere."""

    @property
    def failed(self) -> tuple[Check, ...]:
        checks = [*(check for hop in self.hops for check in hop.checks), *self.ledger]
        return tuple(check for check in checks if check.passed is False)


@dataclass(slots=True)
class Trail:
    """What is known of the prediction so far; each hop reads it and adds to it."""

    trace: Trace
    proofs: Proofs
    id: PredictionId
    text: str
    endpoint: str
    record: Mapping[str, Any] = field(default_factory=dict)
    """The line of the prediction log."""
    at: datetime | None = None
    unit: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    asset: Asset | None = None
    """The candidate that was registered as the model."""
    recipe: Recipe | None = None
    approvals: list[Approval] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trace:
    """`verify(signature, message)` says whether the key signed that is trusted to sign models."""

    kernel: Kernel
    blobs: Blobs
    predictions_of: Callable[[str], Predictions]
    contracts: Contracts
    features: Features
    verifier: Verifier
    """The key whose checkpoints are trusted."""
    verify: Callable[[bytes, bytes], bool]

    def trace(self, prediction_id: str, endpoint: str | None = None) -> Traced:
        """Six hops back. What is missing or was changed is a failed check, never an error.

        Raises InvalidInput where the text is no prediction id, NotFound where there is no such endpoint.
        """
        from falaj.stages.governance import lineage, served

        found = PredictionId.read(prediction_id)
        ledger = self.kernel.ledger
        if not isinstance(ledger, Evident):
            raise InvalidInput("This ledger does not show its evidence.", "use an adapter that does: sqlite or memory.")
        with ledger.evidence() as evidence:
            proofs = Proofs.read(evidence, Succession.of(self.verifier, ledger))
        trail = Trail(self, proofs, found, prediction_id, self._endpoint(proofs, found, prediction_id, endpoint))
        steps = (
            ("prediction", served.prediction),
            ("release", served.release),
            ("model", served.model),
            ("training run", lineage.training_run),
            ("snapshots and features", lineage.snapshots),
            ("source rows and contract", lineage.source_rows),
        )
        hops = tuple(_hop(title, step, trail) for title, step in steps)
        whole = proofs.whole()
        checks = [*(check for hop in hops for check in hop.checks), *whole]
        approvals = tuple(sorted(trail.approvals, key=lambda a: a.event))
        return Traced(prediction_id, trail.endpoint, judge(checks), hops, approvals, whole, proofs.note)

    def _endpoint(self, proofs: Proofs, found: PredictionId, text: str, wanted: str | None) -> str:
        """Whose log holds the prediction; where none does, the first: the trace says what stands there instead."""
        known = proofs.names("endpoint")
        if wanted is not None:
            name = wanted.removeprefix("endpoint/")
            if name not in known:
                raise NotFound.named("endpoint", name, known)
            return name
        if not known:
            raise NotFound("There is no endpoint, so there are no predictions.", "falaj endpoint deploy")
        for name in known:
            try:
                if text.partition(".")[0].encode() in self.predictions_of(name).line(found.segment, found.row):
                    return name
            except Exception:  # noqa: S112  # whatever is wrong with that log, the first hop of the trace will say it
                continue
        return known[0]


def _hop(title: str, step: Callable[[Trail, HopDraft], None], trail: Trail) -> Hop:
    draft = HopDraft(title)
    with draft.asking(title, "readable"):
        step(trail, draft)
    return draft.done()
