"""Who is answered by which model, asked for by name as the command line and the HTTP API do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.operations import OPERATIONS, SHORT

NOW = datetime(2026, 1, 2, tzinfo=UTC)
AMAL = Actor("amal", roles=("operator",))
BY_NAME = {operation.name: operation for operation in OPERATIONS}
PROJECT = """'''One endpoint that serves, and one that does not.'''

from falaj import Endpoint

spare = Endpoint("spare", "delay")
delay = Endpoint("delay", "delay")
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(PROJECT)
    settings = {
        "modules": module, "clock": "replay", "runner": "memory", "host": "memory", "online": "memory", "mirror": "none",
        "name": "traffic",
    }  # fmt: skip
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as found:
        with found.ledger.transaction() as tx:
            for version in "1234":
                ref = Ref("model", "delay", version)
                body = {"ref": str(ref), "asset": {"digest": f"sha256:{version}"}, "manifest": {}, "gate": "allow"}
                tx.append(Event("model.register", ref, AMAL, NOW, {}, (Change("model", f"delay@{version}", body),)))
        do(found, "endpoint.deploy", "delay", model="delay@1", reason="the first")
        yield found


def do(app: App, name: str, subject: str | None, by: Actor = AMAL, **given: Any) -> Any:
    return BY_NAME[name].do(app, by, subject, given)


def arms(app: App) -> dict[str, tuple[str, float]]:
    found = do(app, "endpoint.show", "delay")["wanted"]["arms"]
    return {arm["role"]: (arm["model"].rpartition("@")[2], arm["share"]) for arm in found}


def test_blue_and_green_by_words(app: App) -> None:
    do(app, "endpoint.prepare", "delay", model="delay@2", reason="next")
    assert arms(app) == {"champion": ("1", 1.0), "standby": ("2", 0.0)}
    assert str(do(app, "endpoint.switch", "delay", model="delay@2", reason="go")) == "model/delay@2"
    noun, verb = SHORT["rollback"]
    with pytest.raises(Conflict, match="model/delay@2 answers"):
        do(app, f"{noun}.{verb}", "delay", leaving="delay@3", reason="no")
    assert str(do(app, f"{noun}.{verb}", "delay", leaving="delay@2", reason="no")) == "model/delay@1"
    do(app, "endpoint.drop", "delay", reason="tidy")
    assert arms(app) == {"champion": ("1", 1.0)}


@pytest.mark.parametrize("is_text", [True, False])
def test_an_experiment_by_words_as_a_terminal_and_as_json_write_them(app: App, is_text: bool) -> None:
    def given(*items: str) -> Any:
        return ",".join(items) if is_text else list(items)

    variants = given("b=delay@2", "c=model/delay@3")
    experiment = do(app, "endpoint.split", "delay", variants=variants, weights=given("b=0.3", "c=0.2"), reason="which?")
    assert str(experiment) == "experiment/delay@1"
    assert arms(app) == {"champion": ("1", 0.5), "variant-b": ("2", 0.3), "variant-c": ("3", 0.2)}
    do(app, "endpoint.weigh", "delay", weights=given("b=0.4", "c=0.2"), reason="more")
    assert [one["weights"] for one in do(app, "experiment.list", None)] == [{"b": 0.4, "c": 0.2}]
    do(app, "endpoint.unsplit", "delay", winner="c", reason="c it is")
    assert do(app, "experiment.show", "delay@1")["winner"] == "c"
    assert arms(app) == {"champion": ("3", 1.0)}


@pytest.mark.parametrize(
    ("variants", "weights"),
    [("b", "b=0.1"), ("b=", "b=0.1"), ("b=delay@2,b=delay@3", "b=0.1"), ("b=delay", "b=0.1"), ("b=delay@2", "b=much")],
)
def test_what_is_no_variant_or_no_weight_is_refused_before_anything_happens(app: App, variants: str, weights: str) -> None:
    before = len(list(app.ledger.events()))
    with pytest.raises(InvalidInput):
        do(app, "endpoint.split", "delay", variants=variants, weights=weights, reason="x")
    assert len(list(app.ledger.events())) == before


def test_a_shadow_by_words_and_what_its_log_says(app: App) -> None:
    do(app, "endpoint.shadow", "delay", model="delay@2", share=0.25, reason="see")
    assert arms(app)["shadow"] == ("2", 0.25)
    with pytest.raises(NotFound, match="has said anything"):
        do(app, "shadow.show", "delay")
    folder = app.state / "serving" / "delay" / "segments"
    folder.mkdir(parents=True)
    said = {
        "kind": "shadow", "of": "p0-0-0-0", "at": "2026-01-02T00:00:00.000Z", "arm": "champion", "against": "model/delay@1",
        "model": "model/delay@2", "answered": 0.4, "score": 0.6, "diff": 0.2, "ms": 0.1, "usual_ms": 0.2,
    }  # fmt: skip
    (folder / "000000.jsonl").write_bytes(orjson.dumps(said) + b"\n")
    report = do(app, "shadow.show", "delay", model="delay@2")
    assert (report["rows"], report["decisions"]["changed"], report["latency"]["ratio"]) == (1, 1, 0.5)
    do(app, "endpoint.unshadow", "delay", reason="enough")
    assert "shadow" not in arms(app)


def test_nobody_without_the_right_changes_who_answers(app: App) -> None:
    scientist, worker = Actor("sara", roles=("data_scientist",)), Actor("worker", "service", ("service",))
    for by in (scientist, worker):
        with pytest.raises(Denied):
            do(app, "endpoint.prepare", "delay", by, model="delay@2", reason="x")
    do(app, "endpoint.deploy", "delay", model="delay@2", reason="x")
    with pytest.raises(Denied):
        do(app, "endpoint.rollback", "delay", scientist, reason="x")
    assert str(do(app, "endpoint.rollback", "delay", Actor("noura", roles=("approver",)), reason="x")) == "model/delay@1"


def test_nothing_is_rolled_back_where_nothing_was_served(app: App) -> None:
    with pytest.raises(Conflict, match="Nothing is served"):
        do(app, "endpoint.rollback", "spare", reason="x")


def test_the_worker_starts_no_canary_while_an_experiment_is_under_way(app: App) -> None:
    run = Run("release-1", "release", {}, "succeeded", outputs=(Ref("model", "delay", "4"),), started_at=NOW, ended_at=NOW)
    with app.ledger.transaction() as tx:
        tx.append(Event("run.finish", Ref("run", run.id), AMAL, NOW, {}, (_record(run),)))
    do(app, "endpoint.split", "delay", variants="b=delay@2", weights="b=0.5", reason="x")
    seen = app.worker.tick(NOW)
    assert not [problem for problem in seen.problems if "watch_runs" in problem]
    assert app.rollouts.live("delay") is None
    do(app, "endpoint.unsplit", "delay", winner="champion", reason="x")
    seen = app.worker.tick(NOW)
    assert app.rollouts.live("delay") == Ref("rollout", "delay", "1")


def _record(run: Run) -> Change:
    from falaj.core.codec import encode

    return Change("run", run.id, encode(run))
