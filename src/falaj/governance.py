"""Wiring of what watches over the project: the audit trail, the trace of a prediction, and whoever answers for them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.core.note import Verifier
    from falaj.core.recipe import Recipe
    from falaj.ports.online import Online
    from falaj.ports.predictions import Predictions
    from falaj.ports.subjects import SubjectStore
    from falaj.ports.vault import Vault
    from falaj.stages.governance.audit import Audit
    from falaj.stages.governance.trace import Trace
    from falaj.stages.training.people import People


class Governance:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, app: App) -> None:
        self.app = app

    @cached_property
    def vault(self) -> Vault:
        """A key for each person in the data. Its file and the key that wraps the keys are backed up apart from the data."""
        from falaj.adapters import open_adapter

        app = self.app
        if app.settings.ledger == "memory":
            memory: Vault = open_adapter("vault", "memory")
            return memory
        keys = app.state / "keys"
        vault: Vault = open_adapter(
            "vault", "sqlite", path=app.state / "vault" / "subjects.db", key_path=keys / "vault.kek",
            pepper=(keys / "pepper").read_bytes(),
        )  # fmt: skip
        app.opened(vault)
        return vault

    @cached_property
    def stores(self) -> tuple[SubjectStore, ...]:
        """Whatever keeps data about people, in the order in which it flows."""
        from falaj.stages.contracts.subjects import RowsOfSubjects
        from falaj.stages.features.subjects import OnlineSubjects
        from falaj.stages.scoring.subjects import ScoreSubjects
        from falaj.stages.serving.subjects import PredictionSubjects
        from falaj.stages.training.people import TrainingSubjects

        app = self.app
        snapshots = RowsOfSubjects(app.contracts, "snapshots")
        online: Any = app.online
        return (
            snapshots,
            RowsOfSubjects(app.contracts, "quarantine"),
            OnlineSubjects(online, app.project.views, app.contracts.contract, snapshots.rows_of),
            TrainingSubjects(app.ledger, app.blobs, self.people, app.state / "aside"),
            ScoreSubjects(app.ledger, app.settings.folder),
            PredictionSubjects(app.project.endpoints, app.predictions_of, self.vault.token),
        )

    @cached_property
    def people(self) -> People:
        """How rows are sealed that are kept beside a model."""
        from falaj.stages.training.classes import classes_of
        from falaj.stages.training.people import People

        app = self.app

        def subject_of(recipe: Recipe, spine: str) -> str:
            found = classes_of(recipe, spine, app.project.views, app.contracts.contract)
            return found.get("subjects", {}).get("request", "")

        return People(subject_of, lambda: self.vault)

    def sealed(self, online: Online) -> Online:
        """The online store, so that the rows of views about people are sealed in it."""
        from falaj.adapters.sealing.online import SealedOnline
        from falaj.stages.features.subjects import whose

        app = self.app
        return SealedOnline(online, lambda view: whose(app.project.views, app.contracts.contract, view), lambda: self.vault)

    def opened(self, log: Predictions, endpoint: str) -> Predictions:
        """The prediction log, its sealed records opened as they are read."""
        from falaj.adapters.sealing.predictions import SealedPredictions

        return SealedPredictions(log, endpoint, lambda: self.vault)

    @cached_property
    def audit(self) -> Audit:
        from falaj.stages.governance.audit import Audit

        return Audit(self.app.kernel, self.verifier)

    @cached_property
    def trace(self) -> Trace:
        from falaj.adapters.local.signing import checker, load_public
        from falaj.stages.governance.trace import Trace

        app = self.app
        verify = checker(load_public(app.state / "keys" / "model.ed25519.pub"))
        return Trace(app.kernel, app.blobs, app.predictions_of, app.contracts, app.features, self.verifier, verify)

    @cached_property
    def verifier(self) -> Verifier:
        """Checks the ledger's checkpoints with the key in the state folder; a stranger uses a copy of that key."""
        from falaj.adapters.local.signing import load_public, verifier
        from falaj.core.note import vkey

        public = load_public(self.app.state / "keys" / "ledger.ed25519.pub")
        return verifier(vkey(f"falaj/{self.app.settings.name}", public))
