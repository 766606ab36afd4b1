"""Single rows that are taken together are answered, logged and counted as if each had gone the long way."""

import asyncio
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import Unauthenticated, Unavailable
from falaj.core.segment import PredictionId
from falaj.inference.batch import Batcher
from falaj.inference.http import Edge
from falaj.inference.models import Serving
from falaj.inference.server import Server
from falaj.inference.settings import ServerSettings
from tests.kits.predicting import APP, Place
from tests.kits.wire import Wire

SETTINGS = ServerSettings("delay", "", "", "", "")
BOSS = Actor("boss", "user", ("operator", "ml_engineer"))


class Keys:
    """Two keys, one of which may insist on an arm; either can be taken back."""

    def __init__(self) -> None:
        self.known = {b"app": APP, b"boss": BOSS}

    def look(self) -> None: ...

    def actor(self, key: bytes) -> Actor:
        if key not in self.known:
            raise Unauthenticated("The key is unknown.")
        return self.known[key]


class Endpoint:
    """A server with its edge; `plain`: every call goes the long way."""

    def __init__(self, folder: Path, *, plain: bool = False, place: Place | None = None, **options: Any) -> None:
        self.place, self.keys = place or Place(folder), Keys()
        self.batcher = Batcher(self.place.predictor, **options)
        self.server = Server(SETTINGS, self.keys, self.place.predictor, self.batcher)  # type: ignore[arg-type]
        self.taken = 0
        singles = self.server._singles
        assert singles is not None
        take = singles.take

        def counted(*args: Any) -> bool:
            found = take(*args)
            self.taken += found
            return found

        singles.take = counted  # type: ignore[method-assign]
        if plain:
            self.server._singles = None
        self.edge = Edge(self.server, SETTINGS)

    def line(self) -> tuple[Any, Wire]:
        connection, wire = self.edge.connection(), Wire()
        connection.connection_made(wire)
        return connection, wire

    def ask(self, *turns: Sequence[bytes]) -> list[tuple[int, Any]]:
        """Each turn's requests arrive together, one on each connection. The answers in their order: status, and body."""
        return asyncio.run(self._ask(turns))

    async def _ask(self, turns: Sequence[Sequence[bytes]]) -> list[tuple[int, Any]]:
        lines = [self.line() for _ in range(max(map(len, turns)))]
        found = []
        for requests in turns:
            lines = [self.line() if line[1].is_closed else line for line in lines]
            for (connection, wire), request in zip(lines, requests, strict=False):
                wire.written.clear()
                connection.data_received(request)
            for _ in range(50):
                await asyncio.sleep(0)
            for (_, wire), _ in zip(lines, requests, strict=False):
                head, _, body = b"".join(wire.written).partition(b"\r\n\r\n")
                assert f"content-length: {len(body)}\r\n" in head.decode() + "\r\n"
                found.append((int(head[9:12]), json.loads(body)))
        return found


def infer(data: Any = (700.0, 1.0, 50.0, 5.0), *, key: bytes = b"app", head: bytes = b"", unit: Any = "u", **more: Any) -> bytes:
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": list(data), **more.pop("tensor", {})}
    asked = {"inputs": [tensor], "parameters": {"unit": unit}, **more}
    return post(json.dumps(asked).encode(), key=key, head=head)


def post(body: bytes, *, key: bytes = b"app", head: bytes = b"") -> bytes:
    lines = b"POST /v2/models/delay/infer HTTP/1.1\r\nAuthorization: Bearer %b\r\n%bContent-Length: %d\r\n\r\n"
    return lines % (key, head, len(body)) + body


def known(*requests: bytes) -> list[list[bytes]]:
    """The same head, and then the requests: what comes with a known head may be taken quickly."""
    return [[request] for request in requests] + [list(requests)]


@pytest.fixture
def both(tmp_path: Path) -> Any:
    made = Endpoint(tmp_path / "quick"), Endpoint(tmp_path / "plain", plain=True)
    yield made
    for one in made:
        one.place.log.close()


def bare(record: Any, key: bytes = b"") -> Any:
    """Without what differs from run to run: the place in the log, the time taken, ids that nobody gave."""
    text = json.dumps(record)
    if key:
        for issued in re.findall(r"p[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]{16}", text):
            PredictionId.check(issued, key)
    text = re.sub(r"p[0-9a-f]+-[0-9a-f]+-[0-9a-fx]+-[0-9a-f]{16}", "ID", text)
    text = re.sub(r'"[0-9a-f]{12}-[0-9a-f]+(-[0-9]+)?"', '"GIVEN"', text)
    return json.loads(re.sub(r'(ms)": [0-9.e-]+', r'\1": 0', text))


def _whose(record: Any) -> tuple[str, ...]:
    return record["unit"], str(record.get("request_id")), str([float(one or 0) for one in record.get("features", ())])


def compare(quick: Endpoint, plain: Endpoint, *turns: Sequence[bytes]) -> list[tuple[int, Any]]:
    found = quick.ask(*turns)
    key, other = quick.place.log.key, plain.place.log.key
    assert [bare(one, key) for one in found] == [bare(one, other) for one in plain.ask(*turns)]
    logged = [sorted(map(bare, end.place.records()), key=_whose) for end in (quick, plain)]
    assert logged[0] == logged[1]
    counted = [end.place.predictor.metrics._snapshot() for end in (quick, plain)]
    for name in ("falaj_requests_total", "falaj_predictions_total", "falaj_errors_total", "falaj_refused_total"):
        assert counted[0][name] == counted[1][name], name
    assert quick.batcher.open == plain.batcher.open == 0
    return found


def test_units_are_answered_by_their_arms_and_logged(both: tuple[Endpoint, Endpoint]) -> None:
    requests = [infer((n, 1, 2.5, -3e-7), unit=f"u-{n:03}") for n in range(100, 140)]
    found = compare(*both, *known(*requests))
    assert both[0].taken >= len(requests)
    assert {body["model_version"] for _, body in found} == {"1", "2"}
    ids = [output["data"][0] for _, body in found for output in body["outputs"] if output["name"] == "prediction_id"]
    assert sorted(ids) == sorted(record["id"] for record in both[0].place.records())
    assert len(set(ids)) == len(found)


def test_one_run_of_each_model_and_one_write(both: tuple[Endpoint, Endpoint]) -> None:
    quick, _ = both
    quick.ask(*known(*[infer(unit=f"u-{n:03}") for n in range(100, 140)]))
    assert max(max(model.runs) for model in quick.place.models) > 10
    assert sum(model.runs.count(1) for model in quick.place.models) == 40, "those that came alone"


@pytest.mark.parametrize(
    "request_",
    [
        infer(id="call-7"),
        infer(id='quo"te'),
        infer(id="ünïcode"),
        infer(unit=7),
        infer(unit='a"b\\c'),
        infer(unit="x" * 300),
        infer(unit="new\nline"),
        infer(key=b"wrong"),
        infer(key=b"boss", head=b"X-Falaj-Arm: challenger\r\n"),
        infer(head=b"X-Falaj-Arm: challenger\r\n"),
        infer(head=b"X-Request-Id: r-1\r\n"),
        infer(head=b"X-Request-Timeout-Ms: 1000\r\n"),
        infer((1.0, None, 2.0, 3.0)),
        infer((1.0, 2.0, 3.0)),
        infer((1.0, 2.0, 3.0, 4.0, 5.0)),
        infer((1.0, 2.0, 3.0, 1e39)),
        infer((1.0, 2.0, 3.0, -1e39)),
        infer((1.0, 2.0, 3.0, "4")),
        infer((1.0, 2.0, 3.0, True)),
        infer([[1.0, 2.0, 3.0, 4.0]]),
        infer((666.0, 2.0, 3.0, 4.0)),
        infer((1.0, 2.0, 3.0, 4.0), tensor={"shape": [1, 5]}),
        infer((1.0, 2.0, 3.0, 4.0), tensor={"shape": [4, 1]}),
        infer((1.0, 2.0, 3.0, 4.0), tensor={"shape": [1]}),
        infer((1.0, 2.0, 3.0, 4.0), tensor={"datatype": "FP64"}),
        infer((1, 2, 3, 4), tensor={"datatype": "INT64"}),
        infer((1.0, 2.0, 3.0, 4.0), tensor={"name": "Y"}),
        infer((1.0,) * 8, tensor={"shape": [2, 4]}),
        infer(outputs=[{"name": "label"}]),
        infer(outputs=[{"name": "nothing"}]),
        infer(parameters={"unit": "u", "at": "2013-05-01T09:30:00Z"}),
        infer(parameters={"unit": "u", "timeout": 1}),
        infer(parameters={"unit": "u", "other": 1}),
        infer(more=1),
        post(b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[1,2,\n3,4]}],"parameters":{"unit":"u"}}'),
        post(b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]} x'),
        post(b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[1,2],[3,4]}]}'),
        post(b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[1e400,2,3,4]}]}'),
        post(b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[01,2,3,4]}]}'),
        post(b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[NaN,2,3,4]}]}'),
        post(b'{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32"}]}'),
        post(b'{"inputs":[]}'),
        post(b"{}"),
        post(b"\xff\xfe"),
        post(b"[" * 5000),
    ],
)
def test_whatever_is_not_plain_is_what_it_always_was(both: tuple[Endpoint, Endpoint], request_: bytes) -> None:
    """Alone, and in the same turn as others."""
    compare(*both, [request_], [request_], [infer(unit="a"), request_, infer(unit="b")], [infer(unit="c"), request_])


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
ROWS = st.lists(NUMBERS, min_size=4, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ROWS, st.text(min_size=1, max_size=5)), min_size=1, max_size=12))
@example([([3.4028234663852886e38, -3.4028234663852886e38, 1e-45, 0.0], "edge")])
def test_any_numbers_and_units_are_answered_alike(tmp_path_factory: Any, calls: list[tuple[list[float], str]]) -> None:
    folder = tmp_path_factory.mktemp("both")
    both = Endpoint(folder / "quick"), Endpoint(folder / "plain", plain=True)
    requests = [infer(row, unit=unit) for row, unit in calls]
    compare(*both, *known(*requests))
    for one in both:
        one.place.log.close()


def test_the_next_call_after_a_key_was_taken_back_is_refused(both: tuple[Endpoint, Endpoint]) -> None:
    quick, _ = both
    assert [status for status, _ in quick.ask(*known(infer()))] == [200, 200]
    del quick.keys.known[b"app"]
    assert [status for status, _ in quick.ask([infer()])] == [401]


def test_a_caller_with_other_roles_is_asked_for_anew(both: tuple[Endpoint, Endpoint]) -> None:
    quick, _ = both
    quick.ask(*known(infer()))
    quick.keys.known[b"app"] = Actor("app", "service", ("viewer",))
    assert [status for status, _ in quick.ask([infer()])] == [403]


def test_what_is_served_next_answers_what_waits(both: tuple[Endpoint, Endpoint]) -> None:
    """Between its arrival and its turn."""
    quick, _ = both
    quick.ask(*known(infer()))
    serving = quick.place.predictor.serving
    assert serving is not None

    async def run() -> bytes:
        connection, wire = quick.line()
        connection.data_received(infer())
        wanted = replace(serving.wanted, salt="other")
        quick.place.predictor.serving = Serving(wanted, "delay", serving.arms[:1])
        await asyncio.sleep(0.01)
        return b"".join(wire.written)

    assert b'"arm":"champion"' in asyncio.run(run())


def test_a_model_that_is_taken_out_of_service_does_not_answer(both: tuple[Endpoint, Endpoint]) -> None:
    quick, _ = both
    quick.ask(*known(infer()))
    quick.place.predictor.repository.unload(quick.place.predictor.serving, "delay", {}, BOSS)
    assert [status for status, _ in quick.ask([infer()])] == [503]


def test_a_full_disk_acknowledges_nothing(tmp_path: Path) -> None:
    is_full = False

    def write(fd: int, data: bytes) -> int:
        if is_full:
            raise OSError(28, "No space left on device")
        return os.write(fd, data)

    quick = Endpoint(tmp_path, place=Place(tmp_path))
    quick.place.log._write = write
    quick.ask(*known(infer()))
    is_full = True
    assert [status for status, _ in quick.ask([infer(), infer()])] == [503, 503]
    is_full = False
    assert [status for status, _ in quick.ask([infer(), infer()])] == [200, 200]
    assert len(quick.place.records()) == 4
    quick.place.log.close()


def test_an_answer_waits_for_the_disk_and_is_taken_back_where_that_fails(tmp_path: Path) -> None:
    fails = False

    async def after() -> None:
        await asyncio.sleep(0)
        if fails:
            raise Unavailable("The disk is gone.")

    quick = Endpoint(tmp_path, after=after)
    assert [status for status, _ in quick.ask(*known(infer()))] == [200, 200]
    fails = True
    assert [status for status, _ in quick.ask([infer(), infer()])] == [503, 503]
    assert quick.batcher.open == 0
    quick.place.log.close()


def test_too_many_are_told_to_come_back(tmp_path: Path) -> None:
    quick = Endpoint(tmp_path, waiting=2)
    quick.ask(*known(infer()))
    assert [status for status, _ in quick.ask([infer()] * 4)] == [200, 200, 429, 429]
    quick.place.log.close()


def test_more_than_a_run_may_have_are_several_runs(tmp_path: Path) -> None:
    quick = Endpoint(tmp_path, rows=8)
    quick.ask(*known(infer(unit="one")))
    assert {status for status, _ in quick.ask([infer(unit="one")] * 20)} == {200}
    assert sorted(run for model in quick.place.models for run in model.runs)[-3:] == [4, 8, 8]
    quick.place.log.close()


def test_requests_that_follow_wait_for_their_turn(both: tuple[Endpoint, Endpoint]) -> None:
    """Also where the first was taken quickly, and also where the connection is to end with it."""
    quick, _ = both
    quick.ask(*known(infer()))

    async def run(end: Callable[[Any], None]) -> bytes:
        connection, wire = quick.line()
        connection.data_received(infer(id="first"))
        connection.data_received(infer(id="again", unit="x"))
        end(connection)
        for _ in range(50):
            await asyncio.sleep(0)
        return b"".join(wire.written)

    quick.ask(*known(infer(id="first")))
    found = asyncio.run(run(lambda _: None))
    assert [json.loads(body)["id"] for body in re.findall(rb"\r\n\r\n({.*?})(?=HTTP|$)", found)] == ["first", "again"]

    def drains(_: Any) -> None:
        quick.edge.is_draining = True

    assert asyncio.run(run(drains)).count(b"connection: close") == 1


def test_a_score_that_is_no_number_fails_that_call_alone(tmp_path: Path) -> None:
    quick = Endpoint(tmp_path)
    quick.ask(*known(infer(unit="a")))
    run = quick.place.models[0].run

    def spoilt(rows: Any) -> Any:
        found = run(rows)
        found[1] = np.where(np.asarray(rows)[:, :1] == 13, np.nan, found[1])
        return found

    quick.place.models[0].run = spoilt  # type: ignore[method-assign]
    units = [f"u-{n}" for n in range(10)]
    found = quick.ask(*known(*[infer((13.0 if unit == "u-3" else 1.0, 2, 3, 4), unit=unit) for unit in units]))
    assert [status for status, _ in found[-10:]].count(200) >= 9
    quick.place.log.close()
