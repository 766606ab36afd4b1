"""Wiring of what watches over the project: the audit trail, the trace of a prediction, and whoever answers for them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from falaj.core.errors import Conflict, FalajError, InvalidInput

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.config import Settings
    from falaj.core.actor import Actor
    from falaj.core.note import Verifier
    from falaj.policing import Policing
    from falaj.ports.ledger import Ledger
    from falaj.privacy import Privacy
    from falaj.residency import Residency
    from falaj.sealing import Sealing
    from falaj.stages.governance.audit import Audit
    from falaj.stages.governance.evidence.service import Evidence
    from falaj.stages.governance.records import Records
    from falaj.stages.governance.trace import Trace
    from falaj.stages.governance.witnessing import Witnesses
    from falaj.stages.registry.dossier import Dossier
    from falaj.stages.rollouts.endpoints import Endpoints
    from falaj.stages.rollouts.kills import Kills
    from falaj.stages.rollouts.recalls import Recalls


def refuse_second(settings: Settings) -> None:
    """Raises Conflict where the database that the settings name holds this project's ledger already, signed by another key."""
    from falaj.adapters import open_adapter
    from falaj.adapters.local.keys import OneKey
    from falaj.adapters.local.reference import address
    from falaj.adapters.local.signing import SigningKey

    if settings.ledger != "postgresql" or not settings.ledger_url:
        return
    url, name = address("ledger_url", str(settings.ledger_url)), str(settings.name)
    with closing(open_adapter("ledger", "postgresql", url=url, project=name, keys=OneKey(SigningKey.generate()))) as ledger:
        if next(ledger.leaves(0, 1), None) is not None:
            raise Conflict(
                f"The database holds a ledger of the project {name!r} already.",
                "copy the state folder's keys from the machine that made it, or give this project another name.",
            )


class Governance:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, app: App) -> None:
        self.app = app

    @cached_property
    def policing(self) -> Policing:
        from falaj.policing import Policing

        return Policing(self.app)

    @cached_property
    def privacy(self) -> Privacy:
        from falaj.privacy import Privacy

        return Privacy(self.app)

    @cached_property
    def sealing(self) -> Sealing:
        from falaj.sealing import Sealing

        return Sealing(self.app)

    @cached_property
    def audit(self) -> Audit:
        from falaj.adapters.local.keys import LedgerKeys
        from falaj.adapters.local.shelf import FolderShelf
        from falaj.stages.governance.audit import Audit

        app = self.app
        kernel = replace(app.kernel, ledger=app.ledger)  # its own upkeep never waits for witnesses
        keys = LedgerKeys(app.state / "keys" / "ledger.ed25519", f"falaj/{app.settings.name}")
        return Audit(kernel, self.verifier, self.witnesses, keys, lambda: FolderShelf(app.state / "exports" / "ledger"))

    @cached_property
    def witnesses(self) -> Witnesses:
        """Whom the settings name. Raises InvalidInput for what is no key or no address, NotFound for another adapter."""
        from falaj.adapters.local.signing import witness_verifier
        from falaj.core.cosignature import quorum_of
        from falaj.core.moments import length
        from falaj.stages.governance.witnessing import Witnesses

        settings = self.app.settings
        asked = []
        for text in filter(None, (part.strip() for part in str(settings.witnesses).split(","))):
            vkey, _, url = text.partition(" ")
            asked.append((witness_verifier(vkey), self.residency.open("witness", "http", vkey=vkey, url=url.strip())))
        if len({verifier.public_key for verifier, _ in asked}) < len(asked):
            raise InvalidInput("Two witnesses have the same key.", "a witness with two names is one witness.")
        quorum_of(int(settings.witness_quorum), len(asked))
        return Witnesses(asked, int(settings.witness_quorum), length(str(settings.witness_wait)))

    def writable(self, ledger: Ledger) -> Ledger:
        """The ledger as it may be written: where witnesses are required, only for so long without them."""
        if not self.app.settings.witness_required:
            return ledger
        from falaj.stages.governance.required import WitnessedLedger

        return WitnessedLedger(ledger, self.witnesses, self.app.clock)

    @cached_property
    def records(self) -> Records:
        from falaj.stages.governance.records import Records

        return Records(self.app.kernel)

    @cached_property
    def trace(self) -> Trace:
        from falaj.adapters.local.signing import checker, load_public
        from falaj.stages.governance.trace import Trace

        app = self.app
        verify = checker(load_public(app.state / "keys" / "model.ed25519.pub"))
        return Trace(app.kernel, app.blobs, app.predictions_of, app.contracts, app.features, self.verifier, verify)

    def as_of(self, at: datetime) -> dict[str, Any]:
        """What was declared, served, under way and allowed at that time, from the ledger's events alone."""
        from falaj.stages.governance.asof import state_at, terms, told, until

        events = list(until(self.app.ledger.events(), at))
        return told(state_at(events, at), [term for term in terms(events) if term.is_open], at)

    @cached_property
    def dossier(self) -> Dossier:
        """What is said of models beside what made them."""
        from falaj.stages.registry.dossier import Dossier

        return Dossier(self.app.kernel)

    @cached_property
    def evidence(self) -> Evidence:
        """Makes archives about models, which a stranger checks without falaj."""
        from falaj.adapters.cyclonedx.schema import check
        from falaj.adapters.local.signing import load_public, open_key, sign_envelope
        from falaj.auditor import archive_programs
        from falaj.core.note import vkey
        from falaj.stages.governance.evidence.service import Evidence, Keys

        app, keys = self.app, self.app.state / "keys"
        public = load_public(keys / "ledger.ed25519.pub")
        first, model = vkey(f"falaj/{app.settings.name}", public), load_public(keys / "model.ed25519.pub")
        shown = Keys(self.verifier, first, model, self.audit.rotations, self.witnesses)
        key = open_key(keys / "model.ed25519")

        def sign(payload: bytes, kind: str) -> dict[str, Any]:
            return sign_envelope(payload, kind, key)

        demands = self.policing.demands
        return Evidence(app.kernel, app.blobs, app.state / "exports", sign, shown, archive_programs(), check, demands)

    def stopping(self) -> Kills:
        """The kill switch where nothing else can be opened: the project's code is broken, or residency lets nobody serve.

        It can stop what is served and nothing more, for it declares no endpoint that could be taken back into use.
        """
        from falaj.stages.rollouts.endpoints import Endpoints

        try:
            return self.kills
        except FalajError:
            host = self.app.host if self.app.settings.host == "memory" else self.app.host_told({})
            return self._kills(Endpoints(self.app.kernel, host, {}, self.app.access.allowed))

    @cached_property
    def kills(self) -> Kills:
        """The kill switch of the endpoints, and its drill."""
        return self._kills(self.app.rollouts.place)

    def _kills(self, place: Endpoints) -> Kills:
        from falaj.inference.auth import hmac_of
        from falaj.rehearsal import Rehearsal, wall
        from falaj.stages.rollouts.kills import Kills

        app = self.app
        pepper = (app.state / "keys" / "pepper").read_bytes()
        rehearsal = Rehearsal(place.host, lambda key: hmac_of(pepper, key.encode()), app.access.trust)
        return Kills(place, app.predictions_of, wall, rehearsal)

    @cached_property
    def recalls(self) -> Recalls:
        """Ends the use of versions that were put into quarantine while they answered."""
        from falaj.stages.rollouts.recalls import Recalls

        return Recalls(self.app.rollouts, self.kills)

    def recall(self, actor: Actor) -> list[str]:
        """Carries that out, and tells whoever is on call, once for each endpoint; returns a line for each."""
        found = self.recalls.carry_out(actor)
        for decision in found:
            self.app.alerts.raise_from(actor, decision, severity="critical")
        return [f"{decision.subject}: {decision.reason}" for decision in found]

    @cached_property
    def residency(self) -> Residency:
        from falaj.residency import Residency

        return Residency(self.app)

    @cached_property
    def verifier(self) -> Verifier:
        """Checks the ledger's checkpoints with the key in the state folder; a stranger uses a copy of that key."""
        from falaj.adapters.local.signing import load_public, verifier
        from falaj.core.note import vkey

        public = load_public(self.app.state / "keys" / "ledger.ed25519.pub")
        return verifier(vkey(f"falaj/{self.app.settings.name}", public))
