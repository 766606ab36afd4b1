"""Nothing leaks: every door of a project leads abroad, everything is tried, and not one byte arrives anywhere.

Servers on 127.0.0.2 to 127.0.0.10 stand for places abroad: `[places]` says that they are. They keep whatever connects to them.
The counter-test says that the same addresses are at home, and the same things arrive.
"""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.brokers import Brokers
from falaj.core.actor import Actor
from falaj.core.decision import Check, Decision
from falaj.core.errors import Denied, FalajError
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.openlineage import exports_of
from falaj.steps import release
from tests.kits.foreign import Foreign, abroad

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "scoring.md"
AT = datetime(2026, 2, 10, tzinfo=UTC)
OPS = Actor("ops", "person", ("operator",), "uae-onshore")
NOTHING = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
DOORS = ("blobs", "online", "stream", "source", "mirror", "notify", "lineage", "traces")
MORE = """

import falaj
claims = Dataset("claims", contract="trips.odcs.yaml", source=falaj.postgres("env:LEAK_SOURCE", table="t", known="known_at"),
                 time="at", known="known_at")
"""


class World:
    """A project whose model is trained already, and the servers that its doors lead to."""

    def __init__(self, folder: Path, servers: dict[str, Foreign]) -> None:
        self.folder, self.servers = folder, servers
        self.base = {
            "modules": f"leak_{uuid4().hex}",
            "zone": "uae-onshore",
            "purpose": "planning",
            "runner": "memory",
            "host": "memory",
            "mirror": "none",
        }
        for found in re.finditer(r'```(?:python|yaml) title="([^"]+)"\n(.*?)```', GUIDE.read_text("utf-8"), re.DOTALL):
            name = found[1].replace("project.py", f"{self.base['modules']}.py")
            text = found[2].replace("value: internal}", "value: personal}\n  - {property: purposes, value: [planning]}")
            (folder / name).write_text(text + (MORE if name.endswith(".py") else ""), "utf-8")

    def open(self, zone: str, **settings: Any) -> App:
        """`zone`: where the servers are."""
        table = "".join(f'"{server.address}" = "{zone}"\n' for server in self.servers.values())
        (self.folder / "falaj.toml").write_text(f"[places]\n{table}", "utf-8")
        return open_app(self.folder, {**self.base, **settings})

    def came(self) -> dict[str, tuple[int, bytes]]:
        return {name: (server.came, server.bytes) for name, server in self.servers.items() if server.came}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with abroad([f"127.0.0.{number}" for number in range(2, 2 + len(DOORS))]) as found:
        servers = dict(zip(DOORS, found, strict=True))
        servers["mirror"].answers = NOTHING  # or MLflow tries for minutes
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LEAK_REDIS", f"redis://:hush@{servers['online'].host}/0")
        monkeypatch.setenv("LEAK_STREAM", f"redis://:hush@{servers['stream'].host}/0")
        monkeypatch.setenv("LEAK_SOURCE", f"postgresql://u:hush@{servers['source'].host}/x")
        monkeypatch.setenv("LEAK_KEY", "key")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        made = World(tmp_path, servers)
        init_project(tmp_path, made.base)
        with made.open("eu") as app:
            app.contracts.ingest(OPS, Ref("dataset", "trips"), until=datetime(2026, 3, 1, tzinfo=UTC))
            release(app, Run("first", "release", {"training": "delay", "at": iso(AT)}))
        yield made


def doors(world: World) -> dict[str, dict[str, Any]]:
    """The settings by which each door leads to its server."""
    at = world.servers
    store = {"blobs": "s3", "blobs_uri": "s3://lake/x", "blobs_endpoint": at["blobs"].url(path="")}
    return {
        "blobs": {**store, "blobs_key": "env:LEAK_KEY", "blobs_secret": "env:LEAK_KEY"},
        "online": {"online": "redis", "online_url": "env:LEAK_REDIS"},
        "stream": {"stream": "redis", "stream_url": "env:LEAK_STREAM"},
        "source": {},
        "mirror": {"mirror": "mlflow", "mlflow_uri": at["mirror"].url(path="")},
        "notify": {"webhook": at["notify"].url(path="/T0KEN")},
        "lineage": {"openlineage": at["lineage"].url(path="/api/v1/lineage")},
        "traces": {"serve_trace_url": at["traces"].url("https", "/v1/traces"), "serve_trace_share": "1.0"},
    }


def put_blob(app: App) -> None:
    app.blobs.put(b"a row of somebody")


def read_online(app: App) -> None:
    app.online.get([("now", "somebody")])


def send_message(app: App) -> None:
    with contextlib.closing(Brokers(app.settings, app.governance.residency.open)) as brokers:
        list(brokers.stream("requests").replay())


def ingest(app: App) -> None:
    app.contracts.ingest(OPS, Ref("dataset", "claims"), until=app.kernel.now())


def train(app: App) -> None:
    release(app, Run("second", "release", {"training": "delay", "at": iso(AT)}))


def alert(app: App) -> None:
    subject = Ref("dataset", "trips")
    decision = Decision(subject, "drift", "deny", (Check("psi", "< 0.2", "0.4", False),), reason="the miles have drifted")
    app.alerts.raise_from(Actor("worker", "service", ("service",)), decision)
    sent = app.alerts.deliver_due(Actor("worker", "service", ("service",)), app.kernel.now())
    if not sent:
        raise Denied("nothing was delivered")


def tell_lineage(app: App) -> None:
    exports_of(app).export(OPS, Ref("lineage", "openlineage"))


def deploy_and_predict(app: App) -> None:
    app.rollouts.deploy(OPS, Ref("endpoint", "delay"), model=Ref("model", "delay", "1"), reason="try")
    try:
        key = app.keys.create(OPS, Ref("key", "caller"), roles=["caller"], kind="service")
        app.host.allow(app.access.allowed())
        body = json.dumps({"trip": "t1", "zone": "dxb", "miles": 30.0}).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        url = f"{app.host.look('delay').url}/v1/models/delay:predict"
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
            assert "score" in json.load(answer)
    finally:
        app.host.stop("delay")


TRIES: dict[str, Callable[[App], None]] = {
    "blobs": put_blob, "online": read_online, "stream": send_message, "source": ingest, "mirror": train, "notify": alert,
    "lineage": tell_lineage, "traces": deploy_and_predict,
}  # fmt: skip
KEPT_AS = {"source": "dataset/claims"}
LIVES = {"traces": {"host": "process"}}


def refused(app: App) -> list[str]:
    return [str(event.facts["what"]) for event in app.ledger.events() if event.verb == "zone.deny"]


def test_no_byte_leaves_by_any_door_and_each_try_is_on_record(world: World) -> None:
    for door, settings in doors(world).items():
        with world.open("eu", **settings, **LIVES.get(door, {})) as app:
            with pytest.raises(Denied):
                TRIES[door](app)
            assert KEPT_AS.get(door, door) in refused(app), door
            assert world.came() == {}, door


def test_with_every_door_abroad_at_once_a_whole_round_tells_nobody_anything(world: World) -> None:
    everything = {name: value for settings in doors(world).values() for name, value in settings.items()}
    with world.open("eu", **everything, host="process") as app:
        for attempt in TRIES.values():
            with pytest.raises(FalajError):
                attempt(app)
        done = app.worker.tick(app.kernel.now())
        assert done.problems
        assert not app.governance.residency.verify().allowed
        assert app.ledger.checkpoint().size > 0
        assert {"blobs", "online"} <= set(refused(app))
    assert world.came() == {}


@pytest.mark.parametrize(
    "places", ['"127.0.0.0/8" = "abroad"\n', '"127.0.0.0/8" = "gcp:me-central1"\n"127.0.0.1" = "uae-onshore"\n']
)
def test_the_alert_the_lineage_and_the_store_stay_where_a_network_is_abroad(world: World, places: str) -> None:
    """Also where the network as a whole is declared, and not each address."""
    for door in ("notify", "lineage", "online", "mirror"):
        settings = doors(world)[door]
        (world.folder / "falaj.toml").write_text(f"[places]\n{places}", "utf-8")
        with open_app(world.folder, {**world.base, **settings}) as app, pytest.raises(Denied):
            TRIES[door](app)
    assert world.came() == {}


@pytest.mark.parametrize("door", DOORS)
def test_with_the_same_address_at_home_it_arrives(world: World, door: str) -> None:
    with world.open("uae-onshore", **doors(world)[door], **LIVES.get(door, {})) as app:
        with contextlib.suppress(FalajError):  # these servers are no real Redis, PostgreSQL or MLflow
            TRIES[door](app)
        assert world.servers[door].wait()
        assert refused(app) == []
    assert set(world.came()) == {door}
    if door == "notify":
        assert b"the miles have drifted" in world.servers[door].bytes
