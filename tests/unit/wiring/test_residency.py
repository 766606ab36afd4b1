"""An open project lets nothing out whose zone is unknown or forbidden, keeps what it refused, and lets out what may go."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from falaj.adapters.local.signing import load_public, open_envelope
from falaj.api.routes import build_api
from falaj.app import App, init_project, open_app
from falaj.cli.key import who
from falaj.config import TABLE, load
from falaj.core.actor import Actor
from falaj.core.codec import encode
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.core.event import Change, Event
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.loci import READ_ELSEWHERE, destinations_of
from falaj.operations import OPERATIONS
from falaj.ports.host import Arm, Wanted
from falaj.probing import probed
from falaj.stages.governance.residency.destinations import LOCI
from falaj.stages.governance.residency.service import ALL, ATTESTATION
from falaj.stages.rollouts.endpoints import Held
from tests.kits.foreign import abroad

PAPER = "sha256:" + "b" * 64
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: trips
version: 1.0.0
status: active
customProperties:
  - {property: classification, value: CLASS}
schema:
  - name: trips
    properties:
      - {name: at, logicalType: timestamp, required: true}
      - {name: known_at, logicalType: timestamp, required: true}
"""
MODULE = '''"""One dataset."""
import falaj
trips = falaj.Dataset("trips", contract="trips.yaml", source=SOURCE, time="at", known="known_at")
'''
DPO, OMAR, AMAL = (
    Actor("noura", "person", ("dpo",)),
    Actor("omar", "person", ("approver",)),
    Actor("amal", "person", ("operator",)),
)


def opened(
    folder: Path, *, cls: str = "personal", places: dict[str, str] | None = None, source: str = "", **settings: Any
) -> App:
    module = f"project_{uuid4().hex}"
    text = MODULE.replace("SOURCE", source or "lambda since, until: None")
    (folder / f"{module}.py").write_text(text)
    (folder / "trips.yaml").write_text(CONTRACT.replace("CLASS", cls))
    table = "".join(f'"{place}" = "{zone}"\n' for place, zone in (places or {}).items())
    (folder / "falaj.toml").write_text(f"[places]\n{table}")
    given = {"modules": module, "runner": "memory", "mirror": "none", "zone": "uae-onshore", "host": "memory", **settings}
    if not (folder / ".falaj").exists():
        init_project(folder, given)
    return open_app(folder, given)


def do(app: App, name: str, subject: str | None = None, actor: Actor | None = None, **given: Any) -> Any:
    operation = next(operation for operation in OPERATIONS if operation.name == name)
    return operation.do(app, actor or who(app), subject, given)


def events(app: App, verb: str) -> list[Any]:
    return [event for event in app.ledger.events() if event.verb == verb]


def test_a_fresh_project_leads_nowhere_but_to_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        shown = do(app, "zone.show")
        assert {row["zone"] for row in shown} == {"uae-onshore"}
        assert {row["locus"] for row in shown} <= set(LOCI)
        verdict = do(app, "zone.verify")
        assert verdict.allowed, verdict
        assert "storage ledger personal" in [check.name for check in verdict.checks]
        assert events(app, "zone.deny") == []


def test_a_webhook_in_no_place_gets_nothing_and_the_refusal_is_kept_with_the_line_to_add(tmp_path: Path) -> None:
    with abroad(["127.0.0.3"]) as (other,), opened(tmp_path, places={"127.0.0.3": "eu"}, webhook=other.url()) as app:
        for _ in range(3):
            with pytest.raises(Denied) as raised:
                app.notify.send({"id": "1"})
        assert "personal data may be in uae-onshore, not in eu" in raised.value.message
        assert "falaj transfer request" in raised.value.hint
        assert (other.came, other.bytes) == (0, b"")
        (kept,) = events(app, "zone.deny")  # the same refusal is not told three times within minutes
        assert kept.facts["what"] == "notify"
        assert kept.facts["zone"] == "eu"
        assert kept.actor == Actor("residency", "service", ("service",), "uae-onshore")
        assert not do(app, "zone.verify").allowed
    with opened(tmp_path, webhook="https://hooks.example/T0KEN") as app:
        with pytest.raises((Denied, Unavailable)):
            app.notify.send({"id": "1"})
        row = next(row for row in do(app, "zone.show") if row["what"] == "notify")
        assert (row["zone"], row["address"]) == ("unknown", "https://hooks.example")


def test_a_derogation_is_used_once_by_a_name_with_two_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, places={"hook.example": "eu", "10.0.0.0/8": "eu"}) as app:
        ask(app, basis="derogation", lasts="10d")
        for actor in (OMAR, DPO):
            do(app, "transfer.approve", "hook", actor)
        reach = app.governance.residency.reach("notify")
        reach("hook.example", ())
        reach("hook.example", ("10.0.0.1", "10.0.0.2"))
        with pytest.raises(Denied):
            reach("hook.example", ("10.0.0.1", "10.0.0.2"))
        assert len(events(app, "transfer.use")) == 1


def test_a_link_that_leads_out_of_the_disk_is_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "share" / "blobs").mkdir(parents=True)
    with opened(tmp_path) as app:
        (app.state / "blobs").symlink_to(tmp_path / "share" / "blobs")
    with opened(tmp_path, places={str(tmp_path / "share"): "eu"}) as app:
        assert next(row for row in do(app, "zone.show") if row["what"] == "blobs")["zone"] == "eu"
        with pytest.raises(Denied):
            _ = app.blobs


def test_what_lies_at_home_is_reached(tmp_path: Path) -> None:
    with abroad(["127.0.0.3"]) as (other,), opened(tmp_path, webhook=other.url()) as app:
        app.notify.send({"id": "1"})
        assert b'"id": "1"' in other.wait()


@pytest.mark.parametrize(
    ("settings", "what", "port"),
    [
        ({"online": "redis", "online_url": "env:ABROAD_REDIS"}, "online", "online"),
        ({"blobs": "s3", "blobs_uri": "s3://b/x", "blobs_endpoint": "http://127.0.0.4:1"}, "blobs", "blobs"),
        ({"blobs": "s3", "blobs_uri": "s3://b/x", "blobs_region": "me-south-1"}, "blobs", "blobs"),
        ({"blobs": "s3", "blobs_uri": "s3://b/x", "blobs_region": "me-central-9"}, "blobs", "blobs"),
        ({"mirror": "mlflow", "mlflow_uri": "http://127.0.0.4:1"}, "mirror", "mirror"),
        ({"host": "process", "serve_trace_url": "https://127.0.0.4:1/v1/traces"}, "traces", "host"),
        ({"host": "process", "stream": "nats", "stream_url": "env:ABROAD_NATS"}, "stream", "host"),
        ({"host": "process", "online": "redis", "online_url": "env:ABROAD_REDIS"}, "online", "host"),
    ],
)
def test_an_adapter_abroad_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], what: str, port: str
) -> None:
    monkeypatch.setenv("ABROAD_REDIS", "redis://:hush@127.0.0.4:1/0")
    monkeypatch.setenv("ABROAD_NATS", "nats://127.0.0.4:1")
    with opened(tmp_path, places={"127.0.0.4": "saudi-arabia"}, **settings) as app:
        with pytest.raises(Denied):
            getattr(app, port)
        assert [event.facts["what"] for event in events(app, "zone.deny")] == [what]
        assert "hush" not in str(events(app, "zone.deny"))


def test_the_environment_is_no_way_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.4:1")
    with (
        opened(tmp_path, places={"127.0.0.4": "eu"}, blobs="s3", blobs_uri="s3://b/x", blobs_region="me-central-1") as app,
        pytest.raises(Denied, match=r"127\.0\.0\.4"),
    ):
        _ = app.blobs
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("https_proxy", "http://127.0.0.4:1")
    with (
        opened(tmp_path, places={"127.0.0.4": "eu"}, online="redis", online_url="redis://127.0.0.1:1/0") as app,
        pytest.raises(Denied, match="proxy"),
    ):
        _ = app.online
    monkeypatch.delenv("https_proxy")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.7")
    with (
        opened(tmp_path, online="postgres", online_url="postgresql://x@127.0.0.1/y") as app,
        pytest.raises(Denied, match="PGHOSTADDR"),
    ):
        _ = app.online


def test_a_source_is_judged_by_the_classes_of_its_own_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DB", "postgresql://u:hush@127.0.0.5:1/x")
    source = 'falaj.postgres("env:SOURCE_DB", table="t")'
    for cls in ("personal", "odd-class"):
        with opened(tmp_path, cls=cls, places={"127.0.0.5": "eu"}, source=source) as app:
            with pytest.raises(Denied) as raised:
                app.contracts.ingest(AMAL, Ref("dataset", "trips"), until=app.kernel.now())
            assert "hush" not in str(raised.value)
            assert events(app, "zone.deny")[-1].facts["what"] == "dataset/trips"
    with opened(tmp_path, cls="public", places={"127.0.0.5": "eu"}, source=source) as app:
        until = app.kernel.now()
        with pytest.raises(Unavailable):  # it is let out, and nobody listens there
            app.contracts.ingest(AMAL, Ref("dataset", "trips"), until=until)


def test_a_class_that_no_rule_knows_is_nowhere(tmp_path: Path) -> None:
    with opened(tmp_path, cls="wonderful") as app:
        failed = do(app, "zone.verify").failed
        assert {check.name.rpartition(" ")[2] for check in failed} == {"wonderful"}
    (tmp_path / "trips.yaml").write_text("{")
    with opened(tmp_path) as app:
        (tmp_path / "trips.yaml").write_text("{")
        assert not do(app, "zone.verify").allowed


def test_a_name_is_believed_as_far_as_its_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def answer(address: str) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", (address, 0))])

    places = {"store.example": "uae-onshore", "10.1.0.0/16": "uae-onshore", "10.2.0.0/16": "eu"}
    with opened(tmp_path, places=places, online="redis", online_url="env:REDIS_OF_TEST") as app:
        monkeypatch.setenv("REDIS_OF_TEST", "redis://:hush@store.example/0")
        for address in ("10.2.0.1", "192.0.2.1"):
            answer(address)
            with pytest.raises(Denied, match=address):
                _ = app.online
        answer("10.1.0.1")
        assert app.online is not None


# --- leave to go ---


def ask(app: App, name: str = "hook", **changes: Any) -> Any:
    given = {"to": "eu", "basis": "clauses", "instrument": PAPER, "classes": ["personal"], "datasets": ["trips"], **changes}
    return do(app, "transfer.request", name, **given)


def test_two_others_grant_a_transfer_and_one_ends_it(tmp_path: Path) -> None:
    with abroad(["127.0.0.3"]) as (other,), opened(tmp_path, places={"127.0.0.3": "eu"}, webhook=other.url()) as app:
        assert ask(app)["state"] == "requested"
        with pytest.raises(Conflict):
            ask(app)
        with pytest.raises(Denied):
            do(app, "transfer.approve", "hook")  # who runs the place grants nothing
        assert do(app, "transfer.approve", "hook", OMAR)["state"] == "requested"
        with pytest.raises(Conflict, match="already"):
            do(app, "transfer.approve", "hook", OMAR)
        with pytest.raises(Denied):
            app.notify.send({"id": "1"})
        with pytest.raises(Denied, match="no person"):
            do(app, "transfer.approve", "hook", Actor("robot", "service", ("dpo",)))
        assert do(app, "transfer.approve", "hook", DPO)["state"] == "approved"
        assert do(app, "zone.verify").allowed
        app.notify.send({"id": "2"})
        assert b'"id": "2"' in other.wait()
        do(app, "transfer.revoke", "hook", DPO, reason="over")
        with pytest.raises(Denied):
            app.notify.send({"id": "3"})
        assert b'"id": "3"' not in other.bytes
        assert [row["state"] for row in do(app, "transfer.list")] == ["revoked"]


def test_nobody_approves_what_they_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        given = {"basis": "clauses", "instrument": PAPER, "classes": ["personal"], "datasets": ["trips"]}
        app.governance.residency.transfers.request(DPO, Ref("transfer", "own"), zone="eu", given=given)
        with pytest.raises(Denied, match="asked for"):
            do(app, "transfer.approve", "own", DPO)
        with pytest.raises(NotFound):
            do(app, "transfer.approve", "none", DPO)
        with pytest.raises(InvalidInput):
            app.governance.residency.transfers.request(DPO, Ref("transfer", "x"), zone="eu", given={**given, "conditions": [1]})


def test_a_derogation_is_good_once(tmp_path: Path) -> None:
    with abroad(["127.0.0.3"]) as (other,), opened(tmp_path, places={"127.0.0.3": "eu"}, webhook=other.url()) as app:
        ask(app, basis="derogation", lasts="10d")
        do(app, "transfer.approve", "hook", OMAR)
        do(app, "transfer.approve", "hook", DPO)
        app.notify.send({"id": "1"})
        with pytest.raises(Denied):
            app.notify.send({"id": "2"})
        assert other.came == 1
        assert [event.facts["destination"] for event in events(app, "transfer.use")] == ["notify"]


def test_a_grant_ends_by_itself(tmp_path: Path) -> None:
    settings = {"clock": "replay", "replay_from": "2026-01-01T00:00:00Z"}
    with abroad(["127.0.0.3"]) as (other,), opened(tmp_path, places={"127.0.0.3": "eu"}, webhook=other.url(), **settings) as app:
        ask(app, lasts="2d")
        for actor in (OMAR, DPO):
            do(app, "transfer.approve", "hook", actor)
        app.notify.send({"id": "1"})
        app.clock.tell(moment("2026-01-03T00:00:01Z"))
        with pytest.raises(Denied):
            app.notify.send({"id": "2"})
        assert other.came == 1


# --- a look at reality ---


def test_a_look_is_signed_and_told_once_a_day(tmp_path: Path) -> None:
    from falaj.core.codec import canonical, digest_of

    with opened(tmp_path) as app:
        app.worker.tick(app.kernel.now())
        app.worker.tick(app.kernel.now())
        (event,) = events(app, "zone.attest")
        payload = open_envelope(event.facts["envelope"], load_public(app.state / "keys" / "zone.ed25519.pub"), ATTESTATION)
        assert json.loads(payload)["digest"] == event.facts["digest"]
        said = json.loads(canonical({"at": json.loads(payload)["at"], "findings": event.facts["findings"]}))
        assert digest_of(said) == event.facts["digest"]
        assert {finding["state"] for finding in event.facts["findings"]} == {"good"}
        assert not app.governance.residency.zones.is_news(probed(app), app.kernel.now())


def test_what_has_moved_is_shut_out_and_told_until_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    where = ["10.1.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", (where[0], 0))])
    monkeypatch.setenv("REDIS_OF_TEST", "redis://:hush@store.example/0")
    places = {"store.example": "uae-onshore", "10.1.0.0/16": "uae-onshore"}
    with opened(tmp_path, places=places, online="redis", online_url="env:REDIS_OF_TEST") as app:
        assert do(app, "zone.probe").allowed
        where[0] = "192.0.2.9"
        decision = do(app, "zone.probe")
        assert decision.verdict == "deny"
        assert "192.0.2.9" in decision.reason
        app.alerts.raise_from(app.governance.residency.guard, decision)
        where[0] = "10.1.0.1"
        with pytest.raises(Denied, match="found elsewhere"):  # it looks right again, but nobody has looked properly
            _ = app.online
        assert any(check.name == "storage online probe" for check in do(app, "zone.verify").failed)
        assert do(app, "zone.probe").allowed
        assert app.online is not None
        assert do(app, "zone.verify").allowed


def test_the_worker_raises_an_alert_for_what_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))])
    places = {"hooks.example": "uae-onshore", "10.1.0.0/16": "uae-onshore"}
    with opened(tmp_path, places=places, webhook="https://hooks.example/x") as app:
        done = app.worker.tick(app.kernel.now())
        assert any("hooks.example leads to 192.0.2.9" in line for line in done.news)
        assert app.alerts.open_for("residency-probe|zone/all") is not None
        assert next(f for f in probed(app) if f.what == "notify").state == "drift"


def test_a_network_disk_is_where_its_host_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from falaj import probing, residency
    from falaj.adapters.local.mounts import Mount

    def lent(*_: Any) -> Mount:
        return Mount("/", "nfs4", "10.9.0.1:/export")

    monkeypatch.setattr(residency, "mount_of", lent)
    monkeypatch.setattr(probing, "mount_of", lent)
    with opened(tmp_path) as app:
        assert not do(app, "zone.verify").allowed
        assert next(f for f in probed(app) if f.what == "state folder").state == "unknown"
    with opened(tmp_path, places={"10.9.0.0/16": "eu"}) as app:
        assert next(f for f in probed(app) if f.what == "state folder").state == "drift"
    with opened(tmp_path, places={"10.9.0.0/16": "uae-onshore"}) as app:
        assert do(app, "zone.verify").allowed


def test_nothing_is_put_on_a_disk_whose_host_nobody_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from falaj import residency
    from falaj.adapters.local.mounts import Mount

    with opened(tmp_path) as app:
        assert app.blobs.put(b"at home")
    monkeypatch.setattr(residency, "mount_of", lambda *_: Mount("/", "nfs4", "10.9.0.1:/export"))
    for places in ({}, {"10.9.0.0/16": "eu"}):
        with opened(tmp_path, places=places) as app, pytest.raises(Denied, match=r"10\.9\.0\.1|nobody|where"):
            _ = app.blobs
    with opened(tmp_path, places={"10.9.0.0/16": "uae-onshore"}) as app:
        assert app.blobs.put(b"at home")


@pytest.mark.slow
def test_a_bucket_is_asked_where_it_is(tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    def make(bucket: str, region: str) -> None:
        body = f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        request = urllib.request.Request(f"{s3.endpoint}/{bucket}", data=body.encode(), method="PUT")
        request.add_header("Content-Type", "application/xml")
        request.add_header(
            "Authorization",
            f"AWS4-HMAC-SHA256 Credential=test/20260101/{region}/s3/aws4_request, SignedHeaders=host, Signature=x",
        )
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()

    right, wrong = f"b-{uuid4().hex[:12]}", f"b-{uuid4().hex[:12]}"
    make(right, "me-central-1")
    make(wrong, "me-south-1")
    monkeypatch.setenv("S3_KEY", s3.key)
    monkeypatch.setenv("S3_SECRET", s3.secret)
    settings = {
        "blobs": "s3", "blobs_endpoint": s3.endpoint, "blobs_region": "me-central-1", "blobs_key": "env:S3_KEY",
        "blobs_secret": "env:S3_SECRET",
    }  # fmt: skip
    with opened(tmp_path, blobs_uri=f"s3://{right}/x", **settings) as app:
        found = next(f for f in probed(app) if f.what == "blobs")
        assert (found.state, found.seen) == ("good", "the bucket is in me-central-1")
        assert app.blobs.put(b"x")
    with opened(tmp_path, blobs_uri=f"s3://{wrong}/x", **settings) as app:
        assert not do(app, "zone.probe").allowed
        with pytest.raises(Denied, match="the bucket is in me-south-1, not in me-central-1"):
            _ = app.blobs
    with opened(tmp_path, blobs_uri=f"s3://none-{right}/x", **settings) as app:
        assert next(f for f in probed(app) if f.what == "blobs").state == "unknown"


# --- who asks ---


def test_a_caller_is_in_the_zone_of_the_address_that_they_call_from(tmp_path: Path) -> None:
    places = {"10.0.0.0/8": "uae-onshore", "10.9.0.0/16": "eu"}
    with opened(tmp_path, places=places) as app:
        key = app.keys.create(AMAL, Ref("key", "caller"), roles=["operator"])
        wanted = {
            "127.0.0.1": "uae-onshore", "::1": "uae-onshore", "10.1.2.3": "uae-onshore", "10.9.0.1": "eu",
            "::ffff:10.9.0.1": "eu", "192.0.2.1": "unknown", "": "unknown",
        }  # fmt: skip
        for peer, zone in wanted.items():

            async def call(peer: str = peer) -> httpx.Response:
                transport = httpx.ASGITransport(build_api(app), client=(peer, 1))
                async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7700") as client:
                    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "127.0.0.1"}
                    return await client.post("/v1/keys/friend:create", json={"roles": ["auditor"]}, headers=headers)

            assert asyncio.run(call()).status_code == 200
            assert events(app, "key.create")[-1].actor.zone == zone, peer
        assert who(app).zone == "uae-onshore"


# --- settings ---


def test_places_are_read_from_file_environment_and_flag_alike(tmp_path: Path) -> None:
    (tmp_path / "falaj.toml").write_text('[places]\n"10.0.0.0/8" = "aws:me-central-1"\n"a.example" = "difc"\n')
    assert load(tmp_path, environment={}).places == "10.0.0.0/8=aws:me-central-1,a.example=difc"
    assert load(tmp_path, environment={"FALAJ_PLACES": "10.0.0.0/8=eu"}).places == "10.0.0.0/8=eu"
    for text in ('[places]\na.example = "difc"\n', '[places]\n"a" = 1\n', '[places]\n"a,b" = "eu"\n', "places = 7\n"):
        (tmp_path / "falaj.toml").write_text(text)
        with pytest.raises(InvalidInput):
            load(tmp_path, environment={})
    (tmp_path / "falaj.toml").write_text('[zone]\n"a" = "b"\n')
    with pytest.raises(InvalidInput):
        load(tmp_path, environment={})


@pytest.mark.parametrize("places", [{"10.0.0.0/8": "narnia"}, {"10.0.0.1/8": "eu"}, {"b.example": "UAE Central"}])
def test_a_table_of_places_with_a_mistake_opens_nothing(tmp_path: Path, places: dict[str, str]) -> None:
    with opened(tmp_path, places=places, online="redis", online_url="redis://127.0.0.1:1/0") as app:
        for port in ("online", "blobs"):
            with pytest.raises((InvalidInput, NotFound)):
                getattr(app, port)
        assert do(app, "zone.verify").verdict == "deny"
        assert do(app, "audit.history")


def test_every_setting_with_an_address_is_a_destination(tmp_path: Path) -> None:
    """A setting that is new must not be a way around: where it holds an address it is listed and judged."""
    names = {setting.name for setting in TABLE}
    assert names >= READ_ELSEWHERE
    with opened(tmp_path) as app:
        app.settings.values["name"] = type(app.settings.values["name"])("https://x.example/y", "flag")
        assert any(one.what == "name" and str(one.hosts[0]) == "x.example" for one in destinations_of(app))


def test_listening_everywhere_has_to_be_declared(tmp_path: Path) -> None:
    with opened(tmp_path, serve_host="0.0.0.0") as app:
        assert not do(app, "zone.verify").allowed
    with opened(tmp_path, serve_host="0.0.0.0", places={"adapter:listen.endpoints": "uae-onshore"}) as app:
        assert do(app, "zone.verify").allowed


def test_the_registry_is_shown_with_its_status(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        known = do(app, "zone.known")
        assert {"zones", "regions", "classes"} == set(known)
        assert all(rule.status for rule in known["classes"])
        assert Ref("zone", "all") == ALL


def test_an_endpoint_can_be_stopped_with_a_broken_project_and_where_residency_lets_nothing_be_served(tmp_path: Path) -> None:
    arm = {"role": "champion", "model": "model/delay@1", "digest": "sha256:1", "share": 1.0, "release": "release/delay@1"}
    wanted = Wanted("delay", 3, (Arm(**arm),), "salt", 0.5)
    with opened(tmp_path) as app, app.ledger.transaction() as tx:
        changes = (
            Change("endpoint", "delay", encode(Held(wanted))),
            Change("model", "delay@1", {"ref": "model/delay@1", "manifest": {"payload": ""}, "gate": "allow"}),
        )
        tx.append(Event("endpoint.deploy", Ref("endpoint", "delay"), AMAL, app.kernel.now(), {}, changes))
    with opened(tmp_path, modules="nothing_there") as app:
        told = do(app, "endpoint.kill", "delay", AMAL, reason="it harms people")
        assert told["out_of_use"]
        assert app.ledger.get("endpoint", "delay")["wanted"]["killed"]["by"] == "amal"
        with pytest.raises(NotFound):
            do(app, "endpoint.revive", "delay", OMAR, reason="fine")
    with opened(tmp_path, host="process", online="redis", online_url="redis://store.example:6379/0") as app:
        with pytest.raises((Denied, Unavailable)):
            _ = app.host
        assert app.governance.stopping().place.declared == {}
