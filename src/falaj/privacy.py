"""Wiring of what is done for the people in the data: retention, holds, consent, requests, erasure."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.errors import FalajError
from falaj.core.moments import length
from falaj.core.ref import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from falaj.app import App
    from falaj.core.decision import Decision
    from falaj.ports.subjects import SubjectStore
    from falaj.ports.vault import Vault
    from falaj.stages.contracts.service import Contracts
    from falaj.stages.privacy.affected import Affected
    from falaj.stages.privacy.clocks import Clock
    from falaj.stages.privacy.consent import Consent
    from falaj.stages.privacy.excluding import Excluding
    from falaj.stages.privacy.holds import Holds
    from falaj.stages.privacy.permitted import PermittedRows
    from falaj.stages.privacy.replay import Replay
    from falaj.stages.privacy.requests import Requests
    from falaj.stages.privacy.retention import Retention
    from falaj.stages.privacy.stores import ExportStore
    from falaj.stages.privacy.subjects import Subjects
    from falaj.stages.privacy.terms import Term
    from falaj.stages.privacy.waivers import Waivers

RESTORER = Actor("worker", "service", ("service",))
"""Who destroys again what a restored backup brought back."""


def replayed(app: App, vault: Vault) -> Vault:
    """The vault, once everybody who was erased is erased in it: to be called where it is opened, before anything is read."""
    from falaj.stages.privacy.replay import MOST_TOKENS, Replay

    replay = Replay(app.kernel, vault)
    found = replay.returned()
    for start in range(0, len(found), MOST_TOKENS):
        replay.replay(RESTORER, Ref("subject", "all"), tokens=found[start : start + MOST_TOKENS])
    return vault


class Privacy:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, app: App) -> None:
        self.app = app

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """Those that come with falaj, and the installation's own, which can only make them stricter."""
        from falaj.stages.privacy.terms import TENANT, read_terms, shipped

        name = str(self.app.settings.retention_file)
        own = read_terms(self.app.settings.folder / name, TENANT) if name else ()
        return (*shipped(), *own)

    @cached_property
    def clocks(self) -> tuple[Clock, ...]:
        from falaj.stages.privacy.clocks import shipped

        return shipped()

    @cached_property
    def retention(self) -> Retention:
        from falaj.stages.privacy import retention as work
        from falaj.stages.privacy.shelves import DatasetShelf, ExportShelf, ModelShelf, PredictionShelf

        app, terms = self.app, self.terms
        ledger, blobs = app.ledger, app.blobs
        removers = (
            work.DatasetRemover(app.kernel, blobs, DatasetShelf(ledger, blobs), terms),
            work.ModelRemover(app.kernel, blobs, ModelShelf(ledger, blobs), terms),
            work.PredictionRemover(app.kernel, blobs, PredictionShelf(ledger, app.predictions_of), terms),
            work.ExportRemover(app.kernel, blobs, ExportShelf(ledger, blobs), terms),
        )
        return work.Retention(app.kernel, blobs, removers, terms)

    @cached_property
    def holds(self) -> Holds:
        from falaj.stages.privacy.holds import Holds

        return Holds(self.app.kernel)

    @cached_property
    def waivers(self) -> Waivers:
        from falaj.stages.privacy.waivers import Waivers

        return Waivers(self.app.kernel, self.terms)

    @cached_property
    def consent(self) -> Consent:
        from falaj.stages.privacy.consent import Consent

        return Consent(self.app.kernel)

    @cached_property
    def excluding(self) -> Excluding:
        from falaj.stages.privacy.excluding import Excluding

        return Excluding(self.app.ledger)

    def excluded(self, endpoint: str) -> frozenset[str]:
        """Whom that endpoint may not be asked about: for `serving`, and for its own purpose or this installation's."""
        declared = self.app.project.endpoints.get(endpoint)
        own = (declared.purpose if declared is not None else "") or str(self.app.settings.purpose)
        return self.excluding.of({"serving", own} - {""})

    def tell_endpoints(self) -> str:
        """Tells every endpoint whom it may not be asked about now. From when on that holds, in words."""
        if not self.app.ledger.find("endpoint"):
            return "nothing is served yet"
        try:
            self.app.rollouts.place.exclude()
        except FalajError as exc:
            return f"with the worker's next round: {exc.message[:300]}"
        return "within a second"

    @cached_property
    def requests(self) -> Requests:
        from falaj.stages.privacy.requests import Requests

        return Requests(self.app.kernel, self.clocks)

    @cached_property
    def affected(self) -> Affected:
        from falaj.stages.privacy.affected import Affected

        return Affected(self.app.kernel, length(str(self.app.settings.retrain_after_erasure)))

    @cached_property
    def replay(self) -> Replay:
        from falaj.stages.privacy.receipts import erased_by
        from falaj.stages.privacy.replay import Replay

        app = self.app
        return Replay(
            app.kernel, app.governance.sealing.vault, lambda receipt: erased_by(receipt, self._signed, app.governance.verifier)
        )

    @cached_property
    def exports(self) -> ExportStore:
        from falaj.stages.privacy.stores import ExportStore

        return ExportStore(self.app.ledger, self.app.blobs, self.app.governance.sealing.vault)

    @cached_property
    def subjects(self) -> Subjects:
        from falaj.adapters.local.signing import open_key, sign_envelope
        from falaj.stages.privacy.receipts import Notary
        from falaj.stages.privacy.subjects import Means, Subjects

        app = self.app
        key = open_key(app.state / "keys" / "receipt.ed25519")
        notary = Notary(lambda payload, kind: sign_envelope(payload, kind, key), app.ledger.prove)
        means = Means(app.governance.sealing.vault, app.blobs, self.stores, notary)
        needed = int(app.settings.erasure_approvals)
        return Subjects(app.kernel, means, self.affected, terms=self.terms, approvals_needed=needed)

    def stores(self) -> Sequence[SubjectStore]:
        """Everything here that keeps data about people."""
        from falaj.stages.privacy.stores import ConsentStore

        governance = self.app.governance
        return (*governance.sealing.stores, self.exports, ConsentStore(self.app.ledger, governance.sealing.vault))

    def permitted(self, contracts: Contracts, use: str = "training") -> PermittedRows:
        """The datasets as they are read for a use: for `training` or `scoring`, and for whatever this installation uses data
        for. Who is restricted or withdrew one of these is left out."""
        from falaj.stages.privacy.permitted import PermittedRows

        purposes = {use, str(self.app.settings.purpose)} - {""}

        def excluded() -> frozenset[str]:
            return frozenset().union(*(self.consent.excluded(purpose) for purpose in sorted(purposes)))

        return PermittedRows(contracts, lambda: self.app.governance.sealing.vault, excluded)

    def record(self) -> list[dict[str, Any]]:
        """The record of processing activities, as of now."""
        from falaj.stages.privacy.record import record_of

        return record_of(self.app.ledger, self.terms)

    def verify(self, envelope: Mapping[str, Any]) -> Decision:
        """Whether a receipt was signed here and its event is in the ledger."""
        from falaj.stages.privacy.receipts import verify

        return verify(envelope, self._signed, self.app.governance.verifier)

    @property
    def _signed(self) -> Callable[[bytes, bytes], bool]:
        """Checks with the public key of this project's receipts."""
        from falaj.adapters.local.signing import checker, load_public

        return checker(load_public(self.app.state / "keys" / "receipt.ed25519.pub"))
