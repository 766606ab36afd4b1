"""A real endpoint stops answering about whoever withdrew consent or is restricted, and answers again when that is over."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from falaj.app import App, init_project, open_app
from falaj.core.ref import Ref
from falaj.inference.watch import LOOK_EVERY_S
from falaj.operations import OPERATIONS
from tests.journeys.test_erasure import AT, CONTRACT, ENDPOINT, MODEL, OPERATOR, PROJECT, SERVICE, START, timedelta
from tests.kits.clinic import emirates_id, everything
from tests.kits.privacy import DPO

pytestmark = pytest.mark.slow
WHO, OTHER = emirates_id(7), emirates_id(8)


@dataclass
class Clinic:
    app: App
    key: str

    @property
    def url(self) -> str:
        return str(json.loads((self.app.state / "serving" / "noshow" / "server.json").read_text())["url"])

    def post(self, path: str, body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, trust_env=False)

    def ask(self, *people: str) -> httpx.Response:
        requests = [{"emirates_id": who, "miles": 31.25} for who in people]
        return self.post("/v1/models/noshow:predict", requests[0] if len(requests) == 1 else {"requests": requests})

    def tensor(self, who: str) -> httpx.Response:
        """By the open protocol: the caller has the features, and says by the unit whom they are about."""
        headers = {"Authorization": f"Bearer {self.key}"}
        told = httpx.get(f"{self.url}/v2/models/noshow", headers=headers, trust_env=False).json()["inputs"][0]
        width = told["shape"][-1]
        row = {"name": told["name"], "shape": [1, width], "datatype": "FP32", "data": [1.0] * width}
        return self.post("/v2/models/noshow/infer", {"inputs": [row], "parameters": {"unit": who}})

    def do(self, verb: str, **given: Any) -> Any:
        operation = next(o for o in OPERATIONS if (o.noun, o.verb) == ("subject", verb))
        told = operation.do(self.app, DPO, None, {"person": WHO, **given})
        assert told["endpoints"] == "within a second"
        return told

    def until(self, status: int) -> httpx.Response:
        """The answer once it has that status: what was published is heeded at the server's next look."""
        end = time.monotonic() + 30
        while (answer := self.ask(WHO)).status_code != status:
            assert time.monotonic() < end, answer.text
            time.sleep(LOOK_EVERY_S / 2)
        return answer

    def logged(self) -> int:
        return sum(1 for _ in self.app.predictions_of("noshow").follow())


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("consent")
    (folder / "consent_project.py").write_text(PROJECT.replace('unit="emirates_id"', 'unit="emirates_id", purpose="reminders"'))
    (folder / "visits.odcs.yaml").write_text(CONTRACT)
    given = {
        "zone": "uae-onshore", "purpose": "care", "modules": "consent_project", "runner": "memory", "mirror": "none",
        "name": "clinic", "serve_port": 0, "serve_grpc": "off",
    }  # fmt: skip
    init_project(folder, given)
    with open_app(folder, given) as app:
        for days in (20, 40, 60):
            app.contracts.ingest(SERVICE, Ref("dataset", "visits"), until=START + timedelta(days=days))
        app.features.refresh(AT)
        candidate = app.trainer.train(SERVICE, MODEL, training="noshow", at=AT, run_id="r1")
        assert app.gates.evaluate(SERVICE, candidate, gate=app.project.gates["noshow"]).allowed
        model = app.registry.register(SERVICE, MODEL, candidate=candidate, decision=app.gates.decision(candidate))
        key = app.keys.create(OPERATOR, Ref("key", "booking"), roles=["caller"], kind="service")
        try:
            app.rollouts.deploy(OPERATOR, ENDPOINT, model=model, reason="first")
            yield Clinic(app, key)
        finally:
            app.host.stop("noshow")
    sys.modules.pop("consent_project", None)


def test_whoever_withdraws_is_refused_within_a_look_and_answered_about_after_consenting_again(clinic: Clinic) -> None:
    assert clinic.ask(WHO).json()["missing_views"] == []
    assert clinic.tensor(WHO).status_code == 200
    clinic.do("consent", purpose="reminders", version="v1")
    assert clinic.ask(WHO).status_code == 200
    clinic.do("withdraw", purpose="newsletter")
    assert clinic.app.governance.privacy.excluded("noshow") == frozenset(), "another purpose is another matter"
    clinic.do("withdraw", purpose="reminders")
    refused = clinic.until(403)
    before = clinic.logged()
    assert "may not be asked about that person" in refused.text
    assert WHO not in refused.text
    assert clinic.tensor(WHO).status_code == 403
    many = clinic.ask(OTHER, WHO)
    assert (many.status_code, "requests[1]" in many.text) == (403, True)
    assert clinic.logged() == before, "nothing of it was predicted or written down"
    assert clinic.ask(OTHER).json()["missing_views"] == []
    assert WHO not in everything(clinic.app.state)
    clinic.do("consent", purpose="reminders", version="v2")
    assert clinic.until(200).json()["missing_views"] == []


def test_a_restriction_holds_after_a_restart_of_the_server_and_whatever_the_worker_does(clinic: Clinic) -> None:
    clinic.do("restrict", reason="the data is disputed")
    clinic.until(403)
    clinic.app.host.stop("noshow")
    assert clinic.app.rollouts.reconcile() == ["noshow"]
    assert clinic.ask(WHO).status_code == 403, "from the first request on"
    (clinic.app.state / "serving" / "noshow" / "excluded.json").unlink()
    clinic.until(200)
    clinic.app.rollouts.place.exclude()  # as each round of the worker does
    clinic.until(403)
    clinic.do("unrestrict", reason="it was right")
    clinic.until(200)
