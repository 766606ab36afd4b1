"""A door that asks nobody stops the start, whichever kind it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

import falaj.api.routes
import falaj.cli.parser
import falaj.operations.run
import falaj.steps
import falaj.upkeep
from falaj.adapters.local.policy import ROLES, VERBS
from falaj.api.routes import build_api, doors_of
from falaj.app import App, init_project, open_app
from falaj.cli.local import LOCAL, Local
from falaj.cli.main import main
from falaj.core.actor import Actor
from falaj.core.errors import Bug, Denied, NotFound
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS
from falaj.stages.doors import PUBLIC, Door, refuse_unbound
from falaj.steps import STEPS, Step, execute
from falaj.upkeep import DUTIES, ROUND, Duty
from falaj.worker import Worker

SETTINGS = {"host": "memory", "online": "memory", "mirror": "none", "runner": "memory", "clock": "replay"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text('"""Declares nothing."""\n')
    init_project(tmp_path, {**SETTINGS, "modules": module})
    with open_app(tmp_path, {**SETTINGS, "modules": module}) as app:
        yield app


def hello(*_: object) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.mark.parametrize(
    "route",
    [
        Route("/v1/backdoor", hello),
        Route("/healthz", hello),
        Route("/health", hello, methods=["POST"]),
        Mount("/static", routes=[Route("/x", hello)]),
        WebSocketRoute("/ws", hello),
    ],
    ids=lambda route: route.path,
)
def test_a_route_that_says_nothing_of_a_right_is_refused(route: Route) -> None:
    with pytest.raises(Bug, match="asks policy for nothing"):
        refuse_unbound(doors_of([route]))


def test_an_operation_without_a_right_stops_the_api(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(build_api(app).routes) == len(OPERATIONS) + 1
    loose = replace(OPERATIONS[0], verb="leak", changes=False, asks="nobody.knows")
    monkeypatch.setattr(falaj.api.routes, "OPERATIONS", (*OPERATIONS, loose))
    with pytest.raises(Bug, match=r"route GET .*:leak asks policy for nobody\.knows"):
        build_api(app)


def test_a_command_without_a_right_stops_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["config", "show", "--project", str(tmp_path)]) == 0
    loose = Local(("leak",), "Shows what it should not.", lambda _place: {"secret": 1})
    monkeypatch.setattr(falaj.cli.parser, "COMMANDS", (*falaj.cli.parser.COMMANDS, loose))
    assert main(["config", "show", "--project", str(tmp_path)]) == Bug.exit_code


def test_what_is_public_is_public_for_a_reason_and_exists() -> None:
    known = {f"command {' '.join(local.words)}" for local in LOCAL} | {"route GET /health"}
    assert set(PUBLIC) <= known
    assert all(len(reason) > 20 for reason in PUBLIC.values())
    assert {f"command {' '.join(local.words)}" for local in LOCAL if not local.right} == set(PUBLIC) - {"route GET /health"}


def test_a_duty_without_a_right_stops_the_worker(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    Worker(app)
    loose = Duty("leak", timedelta(days=1), lambda _app, _now: ())
    monkeypatch.setattr(falaj.upkeep, "DUTIES", (*DUTIES, loose))
    with pytest.raises(Bug, match="duty leak asks policy for nothing"):
        Worker(app)


def test_every_duty_of_the_round_is_bound_to_something_that_the_worker_may() -> None:
    rights = {*ROUND.values(), *(duty.right for duty in DUTIES)}
    assert rights <= ROLES["service"]
    assert all(callable(getattr(Worker, f"_{name}")) for name in ROUND)


def test_a_duty_that_policy_forbids_is_told_and_not_done(tmp_path: Path) -> None:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text('"""Declares nothing."""\n')
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "own.cedar").write_text(
        '@id("no-checkpoints") @reason("not now")\nforbid(principal, action == Action::"audit.checkpoint", resource);\n'
    )
    settings = {**SETTINGS, "modules": module}
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        seen = app.worker.tick(app.kernel.now() + timedelta(days=1))
        assert [problem for problem in seen.problems if "not now (no-checkpoints)" in problem]
        assert not list(app.ledger.events(verb="audit.checkpoint"))
        assert not list(app.ledger.events(verb="policy.deny"))


def test_a_step_without_a_right_stops_every_run(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="'nothing'"):
        execute(app, "nothing", "r1")
    monkeypatch.setattr(falaj.steps, "STEPS", {**STEPS, "leak": Step(lambda _app, _run: (), "")})
    with pytest.raises(Bug, match="step leak asks policy for nothing"):
        execute(app, "release", "r1")


def test_a_run_is_started_by_whoever_may_do_what_it_does(app: App) -> None:
    start = next(operation for operation in OPERATIONS if operation.name == "run.start")
    maker = Actor("omar", roles=("approver",))
    with pytest.raises(Denied, match=r"may run\.start"):
        start.do(app, maker, "r1", {"step": "score"})
    assert all(step.right in VERBS for step in STEPS.values())


@pytest.mark.parametrize("rights", [(), ("",), ("model.read", "")])
def test_an_empty_right_is_none(rights: tuple[str, ...]) -> None:
    with pytest.raises(Bug):
        refuse_unbound([Door("duty", "x", rights)])
    refuse_unbound([Door("duty", "x", ("model.read",))], {"model.read"})


def test_policy_is_asked_before_anything_is_looked_up_or_read(app: App) -> None:
    promote = next(operation for operation in OPERATIONS if operation.name == "model.promote")
    with pytest.raises(Denied):
        promote.do(app, Actor("omar", roles=("auditor",)), "nothing@7", {"no-such-argument": 1})
    event = list(app.ledger.events())[-1]
    assert (event.verb, event.subject) == ("policy.deny", Ref("model", "nothing", "7"))
