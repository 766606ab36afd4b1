"""A real server process and everything that a careless or hostile caller may send to it."""

import contextlib
import json
import random
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.errors import Conflict
from falaj.core.moments import iso
from falaj.core.segment import PredictionId
from falaj.inference.server import ROUTES
from tests.kits.endpoint import REQUEST, Installation, tiny_onnx

pytestmark = pytest.mark.slow

PREDICT, INFER, FEEDBACK = "/v1/models/delay:predict", "/v2/models/delay/infer", "/v1/feedback"
TENSOR = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [700.0, 1.0, 50.0, 5.0]}
CALL = {"inputs": [TENSOR], "parameters": {"at": "2013-05-01T09:30:00Z", "unit": "f-1"}}


class Place(Installation):
    def records(self) -> list[Any]:
        return [record for _, record in SegmentPredictions(self.folder / "segments").follow()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("state"))
    found.store()
    found.app, found.ops, found.eyes = found.key("app", "caller"), found.key("ops", "operator"), found.key("eyes", "viewer")
    found.host.serve(found.wanted(), found.keys)
    yield found
    found.close()


@pytest.fixture
def app(place: Place) -> Iterator[httpx.Client]:
    with place.client(place.app) as client:
        yield client
        assert client.get("/v2/health/live").status_code == 200


def refused(answer: httpx.Response, status: int, code: str, *words: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    error = body["error"] if isinstance(body["error"], dict) else {"message": body["error"], **body}
    assert error["code"] == code
    said = f"{error['message']} {error.get('hint', '')}"
    assert all(word in said for word in words), said


def test_a_prediction_by_entity_reads_stored_features_and_is_in_the_log_before_it_is_answered(
    place: Place, app: httpx.Client
) -> None:
    answer = app.post(PREDICT, json={"requests": [REQUEST], "id": "r-1"}).json()["predictions"][0]
    record = next(found for found in place.records() if found["id"] == answer["id"])
    assert record["features"] == [700.0, 1.0, 50.0, 5.0]
    assert (record["arm"], record["unit"], record["request_id"], record["by"], record["via"]) == (
        "champion",
        "f-1",
        "r-1",
        "app",
        "entity",
    )
    assert record["request"] == REQUEST
    assert record["score"] == answer["score"]
    assert set(record) == {
        "kind",
        "id",
        "at",
        "wrote",
        "endpoint",
        "release",
        "model",
        "digest",
        "arm",
        "share",
        "unit",
        "request_id",
        "via",
        "by",
        "request",
        "features",
        "stored_at",
        "score",
        "ms",
        "forced",
    }


def test_a_call_by_tensor_gives_the_same_score_as_a_call_by_entity(place: Place, app: httpx.Client) -> None:
    by_entity = app.post(PREDICT, json=REQUEST).json()
    answer = app.post(INFER, json={**CALL, "id": "t-1"}).json()
    outputs = {found["name"]: found for found in answer["outputs"]}
    assert answer["id"] == "t-1"
    assert (answer["model_name"], answer["model_version"]) == ("delay", "1")
    assert outputs["probabilities"]["shape"] == [1, 2]
    assert outputs["probabilities"]["data"][1] == by_entity["score"]
    assert outputs["prediction_id"]["datatype"] == "BYTES"
    assert next(r for r in place.records() if r["id"] == outputs["prediction_id"]["data"][0])["via"] == "v2"


def test_only_the_outputs_that_were_asked_for_come_back(app: httpx.Client) -> None:
    answer = app.post(INFER, json={**CALL, "outputs": [{"name": "label"}]}).json()
    assert [found["name"] for found in answer["outputs"]] == ["label"]
    refused(app.post(INFER, json={**CALL, "outputs": [{"name": "lable"}]}), 422, "invalid_input", "lable")


def test_an_unknown_entity_is_predicted_without_its_features_and_the_answer_says_so(app: httpx.Client) -> None:
    for origin in ("XXX", None):
        answer = app.post(PREDICT, json={**REQUEST, "origin": origin})
        assert answer.status_code == 200
        assert answer.json()["missing_views"] == ["weather_now"]


@pytest.mark.parametrize("at", ["2013-05-01T12:30:00.001Z", "2013-05-01T09:29:59Z"])
def test_a_stored_row_that_is_too_old_or_from_the_future_is_not_used(app: httpx.Client, at: str) -> None:
    assert app.post(PREDICT, json={**REQUEST, "at": at}).json()["missing_views"] == ["weather_now"]


def test_a_model_that_does_not_exist_is_not_found(app: httpx.Client) -> None:
    refused(app.post("/v1/models/delai:predict", json=REQUEST), 404, "not_found", "did you mean 'delay'")
    refused(app.post("/v2/models/other/infer", json=CALL), 404, "not_found", "other")
    refused(app.post("/v2/models/delay/versions/9/infer", json=CALL), 404, "not_found", "9")
    refused(app.get("/v2/models/delay/versions/9"), 404, "not_found")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"shape": [1, 3], "data": [1, 2, 3]}, "4 columns"),
        ({"shape": [2, 4]}, "8"),
        ({"datatype": "BYTES"}, "BYTES"),
        ({"datatype": "INT64"}, "INT64"),
        ({"data": ["a", 1, 2, 3]}, "str"),
        ({"name": "Y"}, "'Y'"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(app: httpx.Client, changes: dict[str, Any], word: str) -> None:
    answer = app.post(INFER, json={**CALL, "inputs": [{**TENSOR, **changes}]})
    assert answer.status_code in (400, 404, 422)
    assert word in answer.text
    assert isinstance(answer.json()["error"], str)
    assert {"code", "hint"} <= set(answer.json()) or "shape" in changes


@pytest.mark.parametrize("body", [b"", b"{", b"[1,2", b'{"inputs":[{"data":[NaN]}]}', b"\xff\xfe", b"null", b'"text"'])
@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_malformed_json_is_refused(app: httpx.Client, path: str, body: bytes) -> None:
    refused(app.post(path, content=body), 400, "invalid_input")


@pytest.mark.parametrize("field", ["carrier", "origin", "distance", "at"])
def test_a_missing_field_is_named(app: httpx.Client, field: str) -> None:
    request = {name: value for name, value in REQUEST.items() if name != field}
    refused(app.post(PREDICT, json=request), 422, "invalid_input", f"'{field}'")
    refused(app.post(PREDICT, json={"requests": [REQUEST, request]}), 422, "invalid_input", f"'{field}'", "requests[1]")


@pytest.mark.parametrize(
    "changes",
    [
        {"distance": "far"},
        {"distance": True},
        {"at": 7},
        {"at": "noon"},
        {"origin": [1]},
        {"flight_id": {"a": 1}},
        {"carrier": []},
    ],
)
def test_a_field_of_the_wrong_type_is_named(app: httpx.Client, changes: dict[str, Any]) -> None:
    refused(app.post(PREDICT, json={**REQUEST, **changes}), 422, "invalid_input")


def test_an_oversized_body_is_refused_whether_it_says_its_length_or_not(place: Place, app: httpx.Client) -> None:
    big = b'{"a":"' + b"x" * (1 << 20) + b'"}'
    refused(app.post(PREDICT, content=big), 413, "invalid_input", "1048576")
    with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError), place.client(place.app) as other:
        refused(other.post(PREDICT, content=iter([big[: 1 << 19], big[1 << 19 :], b"x"])), 413, "invalid_input")


def test_too_many_requests_and_labels_are_refused(app: httpx.Client) -> None:
    refused(app.post(PREDICT, json={"requests": [REQUEST] * 257}), 422, "invalid_input", "256")
    refused(app.post(FEEDBACK, json={"labels": [{}] * 1025}), 422, "invalid_input", "1024")


def test_every_route_but_health_needs_a_key_and_a_wrong_one_is_as_good_as_none(place: Place) -> None:
    paths = [(route, route.pattern.replace("{name}", "delay").replace("{version}", "1")) for route in ROUTES]
    with httpx.Client(base_url=place.url, trust_env=False) as nobody:
        for route, path in paths:
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"X-Falaj-Key": "wrong"},
                {"Authorization": f"Basic {place.app}"},
            ):
                answer = nobody.request(route.method, path, headers=headers)
                assert answer.status_code == (200 if route.permission == "open" else 401), path
        assert nobody.get("/v2/models/delay", headers={"X-Falaj-Key": place.app}).status_code == 200


def test_a_role_that_may_not_is_denied(place: Place) -> None:
    with place.client(place.eyes) as eyes:
        refused(eyes.post(PREDICT, json=REQUEST), 403, "denied")
        refused(eyes.post(FEEDBACK, json={"labels": []}), 403, "denied")
        refused(eyes.get("/metrics"), 403, "denied")
        assert eyes.get("/v2").status_code == 200


def test_what_is_no_route_does_not_exist(app: httpx.Client) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/v2/models/"),
        ("POST", "/v1/models/:predict"),
        ("GET", "/../etc/passwd"),
    ):
        answer = app.request(method, path)
        assert answer.status_code == 404, (method, path)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v2"), ("DELETE", "/v2/models/delay"), ("GET", INFER)])
def test_a_route_with_another_method_says_which_it_takes(app: httpx.Client, method: str, path: str) -> None:
    answer = app.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST" if path == INFER else "GET")


def test_head_is_answered_without_a_body(app: httpx.Client) -> None:
    answer = app.head("/v2/health/live")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_a_revoked_key_is_refused_on_the_very_next_call(place: Place) -> None:
    gone = place.key("gone", "caller")
    place.host.allow(place.keys)
    with place.client(gone) as client:
        assert client.post(PREDICT, json=REQUEST).status_code == 200
        place.keys = {hashed: who for hashed, who in place.keys.items() if who["name"] != "gone"}
        place.host.allow(place.keys)
        refused(client.post(PREDICT, json=REQUEST), 401, "unauthenticated")


def test_labels_are_taken_and_logged(place: Place, app: httpx.Client) -> None:
    issued = app.post(PREDICT, json=REQUEST).json()["id"]
    label = {"id": issued, "label": 1, "at": "2013-05-01T12:00:00Z", "facts": {"minutes": 20}}
    assert app.post(FEEDBACK, json={"labels": [label]}).json() == {"accepted": 1}
    record = place.records()[-1]
    assert record == {**label, "kind": "label", "at": "2013-05-01T12:00:00.000Z", "wrote": record["wrote"], "by": "app"}


def test_one_bad_label_refuses_all_and_nothing_is_written(place: Place, app: httpx.Client) -> None:
    issued = app.post(PREDICT, json=REQUEST).json()["id"]
    good = {"id": issued, "label": 1, "at": "2013-05-01T12:00:00Z"}
    before = len(place.records())
    refused(
        app.post(FEEDBACK, json={"labels": [good, {**good, "at": "2013-05-01T09:00:00Z"}]}),
        409,
        "conflict",
        "labels[1]",
        "label before its prediction",
    )
    forged = PredictionId(0, 0, 0).issue(b"somebody else's key")
    refused(app.post(FEEDBACK, json={"labels": [{**good, "id": forged}, good]}), 422, "invalid_input", "labels[0]")
    assert len(place.records()) == before


def test_an_arm_may_be_chosen_by_those_who_may_and_is_marked(place: Place, app: httpx.Client) -> None:
    place.host.serve(place.wanted(place.arm(1, share=0.5), place.arm(2, "challenger", 0.5)), place.keys)
    with place.client(place.ops, **{"X-Falaj-Arm": "challenger"}) as ops:
        answer = ops.post(PREDICT, json=REQUEST).json()
    assert answer["arm"] == "challenger"
    assert place.records()[-1]["forced"] is True
    refused(app.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": "challenger"}), 403, "denied")
    with place.client(place.ops) as ops:
        refused(ops.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": "best"}), 404, "not_found", "challenger")
        refused(ops.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": "x" * 300}), 422, "invalid_input", "X-Falaj-Arm")
        assert ops.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": "model/delay@2"}).json()["arm"] == "challenger"
    seen = {app.post(PREDICT, json={**REQUEST, "flight_id": "f-7"}).json()["arm"] for _ in range(5)}
    assert len(seen) == 1
    many = app.post(PREDICT, json={"requests": [{**REQUEST, "flight_id": f"f-{n}"} for n in range(200)]}).json()["predictions"]
    assert 60 < sum(found["arm"] == "challenger" for found in many) < 140
    place.host.serve(place.wanted(place.arm(1)), place.keys)
    refused(app.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": "champion"}), 403, "denied")


def test_a_tampered_model_is_refused_and_the_last_good_one_goes_on_even_after_a_restart(place: Place, app: httpx.Client) -> None:
    bad = place.arm(3)
    name = bad.digest.removeprefix("sha256:")
    (place.state / "blobs" / name[:2] / name[2:]).write_bytes(tiny_onnx(9.0))
    with pytest.raises(Conflict):
        place.host.serve(place.wanted(bad), place.keys)
    told = json.loads((place.folder / "server.json").read_text())
    assert told["problem"]["error"]["code"] == "conflict"
    assert told["tried"] == place.revision
    assert told["revision"] < place.revision
    assert app.post(PREDICT, json=REQUEST).json()["model"] == "model/delay@1"
    _kill(place)
    assert app.post(PREDICT, json=REQUEST).json()["model"] == "model/delay@1"
    unsigned = place.arm(4)
    with pytest.raises(Conflict):
        place.host.serve(place.wanted(replace(unsigned, manifest={**unsigned.manifest, "signatures": []})), place.keys)
    place.host.serve(place.wanted(), place.keys)


def test_metrics_count_per_arm(place: Place, app: httpx.Client) -> None:
    app.post(PREDICT, json=REQUEST)
    with place.client(place.ops) as ops:
        text = ops.get("/metrics").text
    assert 'falaj_requests_total{model="model/delay@1",version="1",arm="champion"}' in text
    assert "falaj_latency_seconds_bucket" in text
    assert 'process_resident_memory_bytes{worker="http-0"}' in text
    assert place.app not in text


def test_a_full_disk_refuses_and_is_forgotten_when_there_is_room_again(place: Place, app: httpx.Client) -> None:
    (pid,) = place.workers().values()
    app.post(PREDICT, json=REQUEST)
    before = place.records()
    free = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    path = max((place.folder / "segments").glob("*.jsonl"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (path.stat().st_size + 100, free[1]))
    try:
        answer = app.post(PREDICT, json=REQUEST)
        refused(answer, 503, "unavailable", "prediction log")
        assert answer.headers["retry-after"] == "1"
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, free)
    assert place.records() == before
    assert app.post(PREDICT, json=REQUEST).status_code == 200
    assert len(place.records()) == len(before) + 1


def test_headers_that_are_too_long_and_requests_that_never_end_are_cut_off(place: Place, app: httpx.Client) -> None:
    refused(app.get("/v2", headers={"X-Long": "x" * 20_000}), 431, "invalid_input")
    host, _, port = place.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(b"rubbish\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_the_wall_clock_is_the_servers_own(tmp_path: Path) -> None:
    place = Place(tmp_path, {"clock": "wall", "sync": "always", "request_timeout_s": 0.3, "max_connections": 3})
    key = place.key("app", "caller")
    try:
        place.host.serve(place.wanted(), place.keys)
        with place.client(key) as app:
            now = datetime.now(UTC)
            request = {name: value for name, value in REQUEST.items() if name != "at"}
            assert app.post(PREDICT, json=request).status_code == 200
            assert app.post(PREDICT, json={**request, "at": iso(now)}).status_code == 200
            refused(app.post(PREDICT, json={**request, "at": iso(now - timedelta(seconds=60))}), 422, "invalid_input", "it is")
            host, _, port = place.url.removeprefix("http://").partition(":")
            with socket.create_connection((host, int(port)), timeout=5) as slow:
                slow.sendall(b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n")
                assert b"408" in slow.recv(1000)
            raws = [socket.create_connection((host, int(port)), timeout=5) for _ in range(4)]
            assert any(raw.recv(1000).startswith(b"HTTP/1.1 429") for raw in raws[-1:])
            for raw in raws:
                raw.close()
    finally:
        place.close()


def test_the_server_stays_up_under_three_hundred_mutated_requests(place: Place, app: httpx.Client) -> None:
    chance = random.Random(7)
    pid = place.host.look("delay").pid
    seeds = [
        (PREDICT, REQUEST),
        (PREDICT, {"requests": [REQUEST, REQUEST]}),
        (INFER, CALL),
        (FEEDBACK, {"labels": [{"id": "p0-0-0-0", "label": 1, "at": "2013-05-01T12:00:00Z"}]}),
    ]
    for _ in range(300):
        path, body = chance.choice(seeds)
        data = bytearray(json.dumps(_mutated(body, chance)).encode())
        for _ in range(chance.choice((0, 0, 1, 3))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        answer = app.post(path, content=bytes(data))
        assert answer.status_code in (200, 400, 404, 409, 422), (answer.status_code, bytes(data), answer.text)
        answer.json()
    assert place.host.look("delay").pid == pid


_ODD = (
    None,
    True,
    -1,
    0,
    1e308,
    2**63,
    "",
    "x" * 300,
    "\0",
    [],
    {},
    [[]],
    {"a": []},
    "2013-05-01T09:30:00Z",
    [None] * 5,
    -0.0,
    "é\u2028",
)


def _mutated(body: Any, chance: random.Random) -> Any:
    if chance.random() < 0.15:
        return chance.choice(_ODD)
    if isinstance(body, dict):
        kept = {name: _mutated(value, chance) for name, value in body.items() if chance.random() > 0.05}
        return {**kept, chance.choice(("at", "x", "id", "parameters")): chance.choice(_ODD)} if chance.random() < 0.2 else kept
    if isinstance(body, list):
        return [_mutated(value, chance) for value in body] * chance.choice((1, 1, 1, 2))
    return body


def _kill(place: Place) -> None:
    """kill -9, and wait until the host has brought it back."""
    import os
    import signal

    before = place.host.look("delay").pid
    os.kill(before, signal.SIGKILL)
    until = time.monotonic() + 10
    while (seen := place.host.look("delay")).pid in (0, before) or not seen.ready:
        assert time.monotonic() < until
        time.sleep(0.05)
