"""What a decision of policy costs, in this process, and what it costs to have the policies at hand."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cedarpy

from benchmarks.figure import Figure, show
from falaj.adapters.cedar.policies import Source
from falaj.adapters.cedar.policy import CedarPolicy
from falaj.adapters.cedar.question import question
from falaj.adapters.cedar.schema import schema_of
from falaj.adapters.local.policy import GROUPS, ROLES, VERBS, RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.packs import known, load
from falaj.stages.labels import Labels

POLICIES = 100
ROUNDS = 20_000
AT_HAND = """
from falaj.adapters.cedar.policies import Source
from falaj.adapters.cedar.policy import CedarPolicy
from falaj.adapters.local.policy import GROUPS, ROLES
from falaj.packs import load
CedarPolicy(roles=ROLES, groups=GROUPS, sources=[Source(pack.id, pack.policies) for pack in load("ae-baseline")])
"""
AMAL = Actor("amal", "person", ("operator",), "uae-onshore")
DATASET = Ref("dataset", "trips", "3")
LABELS = {
    "classes": ["personal"], "held": False, "tier": "none", "zone": "uae-onshore", "purposes": ["planning", "pricing"],
}  # fmt: skip


def policy() -> CedarPolicy:
    """All packs, filled up to a hundred policies with permits and forbids of a project's own."""
    packs = [Source(pack.id, pack.policies) for pack in load([name for name in known() if name not in ("difc", "adgm")])]
    held = len(CedarPolicy(roles=ROLES, groups=GROUPS, sources=packs).set.statements)
    own = "\n".join(
        f'@id("own-{n}") {"permit" if n % 2 else "forbid"}(principal, action == Action::"dataset.read", '
        f'resource == Ref::"dataset/d{n}") when {{ resource has zone && resource.zone == "z{n}" }};'
        for n in range(POLICIES - held)
    )
    made = CedarPolicy(
        roles=ROLES, groups=GROUPS, sources=[*packs, Source("own.cedar", own, own=True)], place=("uae-onshore", "planning")
    )
    assert len(made.set.statements) == POLICIES
    return made


def spread(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median and 99th percentile in microseconds of this thread's own time: what else the machine does counts for nothing."""
    taken = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        call()
        taken.append(time.thread_time_ns() - start)
    taken.sort()
    return taken[len(taken) // 2] / 1e3, taken[len(taken) * 99 // 100] / 1e3


def reparsed(asked: CedarPolicy) -> Callable[[], Any]:
    """The same question to policies and schema as texts."""
    text = "\n".join(one.text for one in asked.set.statements.values())
    schema, put = schema_of(VERBS, GROUPS), question(AMAL, "dataset.read", DATASET, LABELS, asked.place)
    entities = json.dumps(put.entities)
    return lambda: cedarpy.is_authorized(put.request, text, entities, schema)


def started(code: str) -> float:
    """The least of five, in milliseconds, of a process of its own."""
    took = []
    for _ in range(5):
        told = f"import time; start = time.perf_counter()\n{code}\nprint((time.perf_counter() - start) * 1e3)"
        took.append(float(subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout))
    return min(took)


def figures() -> Iterator[Figure]:
    asked, roles = policy(), RolePolicy()
    assert asked.decide(AMAL, "dataset.read", DATASET, LABELS).allowed
    table, _ = spread(lambda: roles.decide(AMAL, "dataset.read", DATASET, LABELS), ROUNDS)
    yield Figure("the role table alone, p50", table, "µs")
    number = itertools.count()
    usual, worst = spread(lambda: asked.decide(AMAL, "dataset.read", replace(DATASET, version=str(next(number))), LABELS), ROUNDS)
    yield Figure(f"a decision by {POLICIES} policies, p50", usual, "µs", "the role table", usual / table)
    yield Figure(f"a decision by {POLICIES} policies, p99", worst, "µs", budget=1000.0)
    known, _ = spread(lambda: asked.decide(AMAL, "dataset.read", DATASET, LABELS), ROUNDS)
    yield Figure("the same question again, p50", known, "µs", "a decision", known / usual)
    again, _ = spread(reparsed(asked), 300)
    yield Figure("with policies and schema read each time, p50", again, "µs", "a decision", again / usual, least=5.0)
    labels = Labels(MemoryLedger(), {"zone": "uae-onshore"})
    told, _ = spread(lambda: labels(Ref("model", "delay", "7")), ROUNDS)
    yield Figure("labels of a model, ledger in memory, p50", told, "µs")
    yield Figure("import of cedarpy", started("import cedarpy"), "ms")
    yield Figure("import, and ae-baseline at hand", started(AT_HAND), "ms", budget=500.0)


if __name__ == "__main__":
    raise SystemExit(show(figures()))
