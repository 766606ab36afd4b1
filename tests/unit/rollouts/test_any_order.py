"""Whatever is asked in whatever order, and whatever the host thinks of it: what is served stays one whole thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.codec import decode
from falaj.core.errors import Conflict, FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.inference.router import split_of
from falaj.ports.host import BUCKETS, SIDE
from falaj.stages.rollouts.endpoints import Held
from tests.kits.rollouts import ANNA, ENDPOINT, GOOD, NEW, OTHER, Breaking, Place

MODELS = (GOOD, NEW, OTHER, Ref("model", "delay", "9"))
PROBLEMS = (None, None, None, Conflict("signed by somebody else"), InvalidInput("no graph"), Unavailable("gone"))
LOADING = ("deploy", "start", "prepare", "rollback", "split", "shadow")
"""What brings a model in: where that cannot be loaded, nothing has changed."""
Step = tuple[str, int, int, int]
"""(what, which model, a weight in buckets, what the host says)"""

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "deploy",
                "start",
                "abort",
                "prepare",
                "switch",
                "rollback",
                "drop",
                "split",
                "weigh",
                "unsplit",
                "shadow",
                "unshadow",
            ]
        ),
        st.integers(0, len(MODELS) - 1),
        st.integers(1, BUCKETS),
        st.integers(0, len(PROBLEMS) - 1),
    ),
    max_size=25,
)


def call_of(place: Place, step: Step) -> Callable[[], Any]:
    what, which, weight, _ = step
    rollouts, model, share = place.rollouts, MODELS[which], weight / BUCKETS
    switches, experiments, shadows = rollouts.switches, rollouts.experiments, rollouts.shadows
    why = {"reason": "because"}
    calls: dict[str, Callable[[], Any]] = {
        "deploy": lambda: rollouts.deploy(ANNA, ENDPOINT, model=model, **why),
        "start": lambda: rollouts.start(ANNA, ENDPOINT, challenger=model),
        "abort": lambda: rollouts.abort(ANNA, rollouts.live("delay") or Ref("rollout", "delay", "99"), **why),
        "prepare": lambda: switches.prepare(ANNA, ENDPOINT, model=model, **why),
        "switch": lambda: switches.switch(ANNA, ENDPOINT, model=model, **why),
        "rollback": lambda: switches.rollback(ANNA, ENDPOINT, **why),
        "drop": lambda: switches.drop(ANNA, ENDPOINT, **why),
        "split": lambda: experiments.split(ANNA, ENDPOINT, variants={"b": model}, weights={"b": share}, **why),
        "weigh": lambda: experiments.weigh(ANNA, ENDPOINT, weights={"b": share}, **why),
        "unsplit": lambda: experiments.unsplit(ANNA, ENDPOINT, winner="b" if which % 2 else "champion", **why),
        "shadow": lambda: shadows.shadow(ANNA, ENDPOINT, model=model, share=share, **why),
        "unshadow": lambda: shadows.unshadow(ANNA, ENDPOINT, **why),
    }
    return calls[what]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(steps)
def test_what_is_served_is_whole_after_every_step(chosen: list[Step]) -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    revision = 1
    for step in chosen:
        host.problem = PROBLEMS[step[3]]
        failed: FalajError | None = None
        before = place.ledger.get("endpoint", "delay")
        try:
            call_of(place, step)()
        except (Conflict, InvalidInput, NotFound, Unavailable) as exc:
            failed = exc
        host.problem = None
        place.rollouts.reconcile()
        record = place.ledger.get("endpoint", "delay")
        assert record is not None
        held = decode(Held, record)
        check(place, held)
        assert held.wanted.revision >= revision
        if record != before:
            assert held.wanted.revision > revision
        if failed is not None and not failed.retryable and step[0] in LOADING:
            assert before is not None
            assert held.wanted.arms == decode(Held, before).wanted.arms  # what could not be, left nothing behind
        revision = held.wanted.revision


def check(place: Place, held: Held) -> None:
    arms = held.wanted.arms
    roles = [arm.role for arm in arms]
    assert roles[0] == "champion"
    assert len(set(roles)) == len(roles)
    assert sum(arm.share for arm in arms if arm.role not in SIDE) == pytest.approx(1)
    assert arms[0].model.rpartition("@")[2] == place.champion()
    assert not (held.rollout and held.experiment)
    assert (held.rollout is not None) == ("challenger" in roles)
    assert (held.experiment is not None) == ("variant-b" in roles)
    assert place.host.wanted["delay"].revision == held.wanted.revision
    assert [arm.digest for arm in place.host.wanted["delay"].arms] == [arm.digest for arm in arms]
    split = split_of(arms, held.wanted.salt)
    found = [0] * len(arms)
    for low, high, place_of in zip((0, *split.ends), (*split.ends, BUCKETS), split.arms, strict=True):
        found[place_of] += high - low
    assert all(count == round(arm.share * BUCKETS) for arm, count in zip(arms, found, strict=True) if arm.role not in SIDE)
    for arm in arms:
        made = place.ledger.get("release", arm.release.partition("/")[2])
        assert made is not None
        assert made["model"] == arm.model
