"""Wiring of policy: the packs in force, the project's own policies, and what policy is told about anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.ref import Ref

if TYPE_CHECKING:
    from falaj.adapters.cedar.policies import Source
    from falaj.app import App
    from falaj.packs import Pack
    from falaj.ports.policy import Policy
    from falaj.stages.governance.policies import Policies
    from falaj.stages.labels import Labels
    from falaj.stages.registry.demands import Demands

POLICIES = "policies"
"""The project's folder of Cedar files."""


class Policing:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.allowed: dict[str, float] = {}
        """right → until when the worker need not ask for it again, in seconds of a clock that never goes back."""

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

    @cached_property
    def demands(self) -> Demands:
        """What the packs in force ask of models that matter; without packs falaj's own figures, assumed."""
        from falaj.stages.registry.demands import demands_of

        return demands_of(self.packs if self.app.settings.policy == "cedar" else ())

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
