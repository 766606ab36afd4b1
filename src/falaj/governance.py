"""Wiring of what watches over the project: the audit trail, the trace of a prediction, and whoever answers for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.ref import Ref

if TYPE_CHECKING:
    from falaj.adapters.cedar.policies import Source
    from falaj.app import App
    from falaj.core.note import Verifier
    from falaj.core.recipe import Recipe
    from falaj.packs import Pack
    from falaj.ports.online import Online
    from falaj.ports.policy import Policy
    from falaj.ports.predictions import Predictions
    from falaj.ports.subjects import SubjectStore
    from falaj.ports.vault import Vault
    from falaj.privacy import Privacy
    from falaj.stages.governance.audit import Audit
    from falaj.stages.governance.policies import Policies
    from falaj.stages.governance.trace import Trace
    from falaj.stages.labels import Labels
    from falaj.stages.training.people import People

POLICIES = "policies"
"""The project's folder of Cedar files."""


class Governance:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, app: App) -> None:
        self.app = app

    # --- policy ---

    @cached_property
    def policy(self) -> Policy:
        """Raises InvalidInput with file and line for a policy of the project that is broken, NotFound for an unknown pack."""
        from falaj.adapters import open_adapter

        options: dict[str, Any] = {"zone": str(self.app.settings.zone)}
        if self.app.settings.policy == "cedar":
            from falaj.adapters.local.policy import GROUPS, ROLES

            place = (str(self.app.settings.zone), str(self.app.settings.purpose))
            options = {"roles": ROLES, "groups": GROUPS, "sources": self.sources(self.packs), "place": place}
        policy: Policy = open_adapter("policy", str(self.app.settings.policy), **options)
        return policy

    @cached_property
    def packs(self) -> tuple[Pack, ...]:
        from falaj.packs import load

        return load(str(self.app.settings.packs))

    def sources(self, packs: Sequence[Pack]) -> list[Source]:
        """The policies of the packs, and those of the project as they stand on disk."""
        from falaj.adapters.cedar.policies import Source, project_sources

        of_packs = [Source(f"{pack.id}/policies.cedar", pack.policies) for pack in packs]
        return [*of_packs, *project_sources(self.app.settings.folder / POLICIES)]

    def changed(self, packs: Sequence[str] | None) -> Policy:
        """The policy as it would be with these packs, or those in force, and the project's policies as they stand on disk.

        Raises as `policy` does, and InvalidInput where no policies are asked.
        """
        from falaj.adapters.cedar.policy import CedarPolicy
        from falaj.packs import load

        if not isinstance(self.policy, CedarPolicy):
            raise InvalidInput(f"The policy is {self.app.settings.policy}, which has no packs.", 'set policy = "cedar".')
        return self.policy.changed(self.sources(self.packs if packs is None else load(packs)))

    def listed(self) -> list[Mapping[str, str]]:
        """Every policy in force with its effect, its place and what it says of itself."""
        from falaj.adapters.cedar.policy import CedarPolicy

        return self.policy.listing() if isinstance(self.policy, CedarPolicy) else []

    @cached_property
    def policies(self) -> Policies:
        from falaj.adapters.cedar.policy import CedarPolicy
        from falaj.adapters.local.policy import ROLES
        from falaj.stages.governance.policies import Policies

        policy = self.policy
        return Policies(self.app.kernel, ROLES, policy.reads if isinstance(policy, CedarPolicy) else lambda _id: ())

    @cached_property
    def labels(self) -> Labels:
        """What policy is told about a ref: its records, and for what has none yet the declarations of the project."""
        from falaj.stages.labels import Labels

        return Labels(self.app.ledger, self.home, self._stands_on)

    @property
    def home(self) -> dict[str, Any]:
        """What holds for everything of which nothing else is known."""
        return {"zone": str(self.app.settings.zone)}

    def _stands_on(self, ref: Ref) -> Iterable[Ref]:
        """The datasets that a view, or a model to be trained, is declared to use."""
        if ref.kind not in ("view", "model") or ref.version is not None:
            return ()
        try:
            project = self.app.project
        except NotFound:  # there is no module, so nothing is declared; one that is broken is an error
            return ()
        if ref.kind == "view":
            view = project.views.get(ref.name)
            return () if view is None else (Ref("dataset", view.dataset),)
        found = [one for one in project.trainings.values() if one.model == ref.name]
        views = [project.views[name] for one in found for name in one.recipe.views if name in project.views]
        return [Ref("dataset", name) for name in {*(one.spine for one in found), *(view.dataset for view in views)}]

    # --- the trail ---

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
    def privacy(self) -> Privacy:
        from falaj.privacy import Privacy

        return Privacy(self.app)

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
