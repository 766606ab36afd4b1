"""Wiring of what is sealed: the vault of people's keys, the stores that hold data about people, and what seals on the way."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.core.recipe import Recipe
    from falaj.ports.online import Online
    from falaj.ports.predictions import Predictions
    from falaj.ports.subjects import SubjectStore
    from falaj.ports.vault import Vault
    from falaj.stages.training.people import People


class Sealing:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, app: App) -> None:
        self.app = app

    @cached_property
    def vault(self) -> Vault:
        """A key for each person in the data. Its file and the key that wraps the keys are backed up apart from the data.

        Whoever was erased and came back with an old copy of it is erased again before anything is read.
        """
        from falaj.adapters import open_adapter
        from falaj.privacy import replayed

        app = self.app
        if app.settings.ledger == "memory":
            memory: Vault = open_adapter("vault", "memory")
            return replayed(app, memory)
        keys = app.state / "keys"
        vault: Vault = open_adapter(
            "vault", "sqlite", path=app.state / "vault" / "subjects.db", key_path=keys / "vault.kek",
            pepper=(keys / "pepper").read_bytes(),
        )  # fmt: skip
        app.opened(vault)
        return replayed(app, vault)

    def restored(self) -> None:
        """Before anything is served: where there is a vault, whoever was erased is erased in it, whichever copy of it this is."""
        if (self.app.state / "vault" / "subjects.db").is_file():
            _ = self.vault

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
