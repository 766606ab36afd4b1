"""Rollouts over a ledger in memory, with models that a gate let pass, and one that it did not; the host in memory or real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from falaj.adapters.memory.host import MemoryHost
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.ports.host import Wanted
from falaj.stages.action import Kernel
from falaj.stages.rollouts.endpoints import Endpoints
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.rollouts.spec import Canary, Endpoint
from tests.kits.endpoint import Installation

T0 = datetime(2013, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ANNA = Actor("anna", "person", ("ml_engineer",))
ENDPOINT = Ref("endpoint", "delay")
GOOD, NEW, DENIED, OTHER = (Ref("model", "delay", version) for version in "1234")
PLAN = Canary(steps=(0.1, 0.5), guards=("wrong", "failure"), step_units=50)


class Everybody:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any]) -> Decision:
        return Decision(subject, "policy", "allow", actor=actor)


class Breaking(MemoryHost):
    """Raises what it is told to."""

    problem: Exception | None = None

    def serve(self, wanted: Wanted, keys: Mapping[str, Mapping[str, Any]]) -> None:
        if self.problem is not None:
            raise self.problem
        super().serve(wanted, keys)


@dataclass
class Place:
    now: datetime = T0
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    host: MemoryHost = field(default_factory=MemoryHost)

    def __post_init__(self) -> None:
        kernel = Kernel(self.ledger, Everybody(), lambda: self.now)
        endpoints = {"delay": Endpoint("delay", "delay", "flight_id", 0.3, PLAN)}
        self.rollouts = Rollouts(Endpoints(kernel, self.host, endpoints, dict))
        for ref, gate in ((GOOD, "allow"), (NEW, "allow"), (DENIED, "deny"), (OTHER, "allow")):
            body = {
                "ref": str(ref),
                "asset": {"digest": f"sha256:{ref.version}"},
                "manifest": {"payload": "x" * 9000},
                "gate": gate,
            }
            with self.ledger.transaction() as tx:
                change = Change("model", f"{ref.name}@{ref.version}", body)
                tx.append(Event("model.register", ref, ANNA, T0, {}, (change,)))

    def begin(self) -> Ref:
        self.deploy()
        return self.rollouts.start(ANNA, ENDPOINT, challenger=NEW, seed=7)

    def deploy(self, model: Ref = GOOD) -> None:
        self.rollouts.deploy(ANNA, ENDPOINT, model=model, reason="the first")

    def shares(self) -> dict[str, float]:
        return {arm.model: arm.share for arm in self.host.wanted["delay"].arms}

    def arms(self) -> dict[str, str]:
        """Role → version."""
        return {arm.role: arm.model.rpartition("@")[2] for arm in self.host.wanted["delay"].arms}

    def champion(self) -> str:
        """The version that the alias points at."""
        return str((self.ledger.get("alias", "delay@champion") or {})["model"]).rpartition("@")[2]


def over(place: Installation, *versions: int, ledger: MemoryLedger | None = None) -> Rollouts:
    """Rollouts of `delay` over a real host, with these versions registered. Deploy one before anything else."""
    ledger = ledger or MemoryLedger()
    for version in versions:
        arm = place.arm(version)
        body = {"ref": arm.model, "asset": {"digest": arm.digest}, "manifest": arm.manifest, "gate": "allow"}
        with ledger.transaction() as tx:
            change = Change("model", arm.model.removeprefix("model/"), body)
            tx.append(Event("model.register", Ref.parse(arm.model), ANNA, T0, {}, (change,)))
    kernel = Kernel(ledger, Everybody(), lambda: T0)
    return Rollouts(Endpoints(kernel, place.host, {"delay": Endpoint("delay", "delay", "flight_id", 0.5)}, lambda: place.keys))
