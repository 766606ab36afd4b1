"""Messages are answered once each, whatever happens in between; what cannot be answered goes to the dead letters."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.adapters.memory.stream import MemoryStream
from falaj.core.errors import InvalidInput, Unavailable
from falaj.core.message import Delivery, Message
from falaj.core.moments import iso
from falaj.inference.consume import Leaving
from falaj.inference.messages import key_of
from falaj.inference.stream_counts import FAMILIES
from tests.kits.messages import NOW, Desk, Killed, entity, tensor, with_settings

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_a_request_by_entity_is_answered_as_rest_answers_it(desk: Desk) -> None:
    desk.ask(Message(entity("f-1"), "f-1", {"traceparent": TRACE, "X-Mine": "1", "falaj-reason": "forged"}, "m-1"))
    assert desk.worker().turn(0) == 1
    (answer,), (record,) = desk.answers, desk.logged
    body = json.loads(answer.value)
    assert (body["id"], body["score"], body["arm"]) == (record["id"], record["score"], "champion")
    assert (answer.key, answer.id) == ("f-1", record["id"])
    assert answer.headers == {"traceparent": TRACE, "X-Mine": "1", "falaj-position": "0", "falaj-request": "m-1"}
    assert (record["via"], record["by"], record["trace"]) == ("stream", "stream:falaj", TRACE)
    assert record["request_id"] == "requests[m-1]"
    assert desk.lag == 0


def test_several_requests_and_tensors_are_answered_too_in_the_order_of_the_messages(desk: Desk) -> None:
    many = json.dumps({"requests": [json.loads(entity("a")), json.loads(entity("b"))]}).encode()
    desk.ask(Message(many, "k1"), Message(tensor([1, 2, None, 4], [1, 2, 3, 4], id="mine"), "k2"), Message(entity("c"), "k3"))
    worker = desk.worker()
    assert worker.turn(0) == 3
    first, second, third = map(json.loads, (answer.value for answer in desk.answers))
    assert [row["id"] for row in first["predictions"]] == [record["id"] for record in desk.logged[:2]]
    assert second["id"] == "mine"
    assert second["outputs"][-1]["data"] == [record["id"] for record in desk.logged[2:4]]
    assert third["id"] == desk.logged[4]["id"]
    assert (worker.counts.consumed, worker.counts.produced, worker.counts.lag, worker.counts.in_hand) == (3, 3, 3, 0)
    told = worker.counts.readers(FAMILIES)
    assert (told["stream_produced_total"](), told["stream_lag"](), len(told)) == (3, 3, len(FAMILIES))


@pytest.mark.parametrize("body", [
    b"", b"no json", b"[1]", b"{}", entity(distance="far"), b'{"requests":[]}', tensor([1, 2]),
    tensor([1, 2, 3, 4], outputs=[{"name": "x"}]),
    b'{"inputs":[]}', b"\xff\xfe", b"x" * (1 << 21), entity(at="yesterday"), entity(flight={}),
])  # fmt: skip
def test_what_is_no_request_is_a_dead_letter_at_once(desk: Desk, body: bytes) -> None:
    MemoryStream(desk.source, largest=1 << 22).produce([Message(body, "k", {"a": "b"}, "bad"), Message(entity(), id="good")])
    worker = desk.worker()
    worker.turn(0)
    (letter,) = desk.letters
    assert letter.value == body[: len(letter.value)]
    assert (letter.value == body) is (len(body) <= 1 << 20)
    assert (letter.key, letter.id, letter.headers["a"]) == ("k", "dead:requests[bad]", "b")
    assert letter.headers["falaj-reason"] == "invalid_input"
    assert (letter.headers["falaj-attempts"], letter.headers["falaj-stream"], letter.headers["falaj-request"]) == (
        "1",
        "requests",
        "bad",
    )
    assert len(desk.answers) == len(desk.logged) == 1
    assert (desk.lag, worker.counts.dead) == (0, 1)


def test_a_message_that_its_producer_sent_twice_has_one_prediction_and_one_answer(desk: Desk) -> None:
    desk.ask(Message(entity(), id="a"))
    desk.source.ids.clear()  # a broker that does not know ids
    desk.ask(Message(entity(), id="a"), Message(entity(), id="b"))
    worker = desk.worker()
    worker.turn(0)
    desk.source.ids.clear()
    desk.ask(Message(entity(), id="b"), Message(entity(), id="a"))
    worker.turn(0)
    desk.source.ids.clear()
    desk.ask(Message(entity(), id="b"))
    desk.worker().turn(0)  # also after a restart
    assert len(desk.logged) == len(desk.answers) == 2
    assert (worker.counts.duplicates, desk.lag) == (3, 0)


def test_ids_that_look_like_rows_of_another_are_not_taken_for_it(desk: Desk) -> None:
    two = json.dumps({"requests": [json.loads(entity("a")), json.loads(entity("b"))]}).encode()
    desk.ask(Message(entity("x"), id="n-0"), Message(two, id="n"), Message(entity("y"), id="n-1"), Message(entity("z"), id="0"))
    desk.ask(Message(entity("w")))
    desk.worker().turn(0)
    desk.worker().turn(0)
    assert len(desk.answers) == 5
    assert len(desk.logged) == 6


CUTS = [
    {"source": "after consume"}, {"sink": "produce"}, {"sink": "after produce"}, {"dead": "produce"}, {"dead": "after produce"},
    {"source": "acknowledge"}, {"source": "after acknowledge"},
]  # fmt: skip


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize(
    "body", [entity("f"), tensor([1, 2, 3, 4], [1, 2, None, 4], id="t"), b'{"requests":[%b,%b]}' % (entity("a"), entity("b"))]
)
def test_killed_anywhere_it_answers_once(desk: Desk, cut: dict[str, str], body: bytes) -> None:
    desk.ask(Message(body, "k", id="m"), Message(b"broken", "k"), Message(entity("other"), "k"))
    with pytest.raises(Killed):
        desk.worker(**cut).turn(0)
    predicted = {record["id"] for record in desk.logged}
    again = desk.worker()
    if cut != {"source": "after acknowledge"}:
        assert again.turn(5) == 3
    assert len(desk.logged) == len(json.loads(body).get("requests", [0])) + 1 + (b"inputs" in body)
    assert predicted in ({record["id"] for record in desk.logged}, set())
    assert [answer.key for answer in desk.answers] == ["k", "k"]
    assert len(desk.letters) == 1
    whole = Desk(desk.folder / "whole")
    whole.ask(Message(body, "k", id="m"))
    whole.worker().turn(0)
    assert _without_ids(desk.answers[0].value) == _without_ids(whole.answers[0].value)
    whole.close()


def test_an_answer_is_owed_also_when_younger_messages_were_answered_before_its_own_came_again(desk: Desk) -> None:
    with_settings(desk, stream_batch=1, stream_visible_s=60.0)
    desk.ask(*(Message(entity(f"f{n}"), f"k{n}") for n in range(4)))
    for _ in range(2):
        with pytest.raises(Killed):
            desk.worker(sink="produce").turn(0)
    assert desk.worker().turn(0) == 1  # the third, and its process ends too
    desk.expire()
    worker = desk.worker()
    assert [worker.turn(0) for _ in range(3)] == [1, 1, 1]
    assert worker.counts.recovered == 2
    assert [answer.key for answer in desk.answers] == ["k2", "k0", "k1", "k3"]
    assert len(desk.logged) == 4
    assert json.loads((desk.folder / "stream.json").read_text())["owed"] == []


@pytest.mark.parametrize("segment", [1, 9])
def test_an_answer_is_owed_however_far_the_log_has_gone_on(desk: Desk, segment: int) -> None:
    with_settings(desk, stream_visible_s=60.0)
    desk.ask(Message(entity("f"), "k"))
    with pytest.raises(Killed):
        desk.worker(sink="produce").turn(0)
    worker = desk.worker()
    (desk.folder / "segments" / f"{segment:06d}.jsonl").write_text("")
    assert worker.turn(0) == 0  # nothing to do, for now
    assert json.loads((desk.folder / "stream.json").read_text())["sent"] == [segment, 0]
    worker = desk.worker()
    desk.expire()
    assert worker.turn(0) == 1
    assert (len(desk.answers), len(desk.logged), worker.counts.recovered) == (1, 1, 1)


def test_nothing_is_owed_any_more_when_every_message_is_acknowledged(desk: Desk) -> None:
    desk.ask(Message(entity("f"), id="m"))
    with pytest.raises(Killed):
        desk.worker(sink="produce").turn(0)
    MemoryStream(desk.source).acknowledge("falaj", [Delivery(Message(b""), "0", 1, 0)])  # by an operator who gave it up
    assert desk.worker().turn(0) == 0
    note = json.loads((desk.folder / "stream.json").read_text())
    assert (note["owed"], note["tries"]) == ([], {})


def _without_ids(value: bytes) -> Any:
    def clean(body: Any) -> Any:
        if isinstance(body, dict):
            return {name: clean(one) for name, one in body.items() if name != "id" and body.get("name") != "prediction_id"}
        return [clean(one) for one in body] if isinstance(body, list) else body

    return clean(json.loads(value))


def test_an_answer_whose_model_is_gone_is_told_by_its_scores(desk: Desk) -> None:
    desk.ask(Message(tensor([1, 2, 3, 4], id="t")))
    with pytest.raises(Killed):
        desk.worker(sink="produce").turn(0)
    (record,) = desk.logged
    desk.arm = type(desk.arm)("champion", "model/delay@2", "sha256:" + "b" * 64, 1.0, "release/delay@2")
    desk.worker().turn(5)
    body = json.loads(desk.answers[0].value)
    assert (body["model_version"], body["id"]) == ("1", "t")
    assert [tensor["data"] for tensor in body["outputs"]] == [[record["score"]], [record["id"]]]
    assert len(desk.logged) == 1


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(CUTS), max_size=5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_however_often_it_is_killed_nothing_is_lost_or_doubled(
    tmp_path: Path, cuts: list[dict[str, str]], size: int, chance: Any
) -> None:
    folder = tmp_path / f"{chance.random()}-{time.monotonic_ns()}"
    desk = with_settings(Desk(folder), stream_batch=size, stream_visible_s=60.0)
    bodies = [chance.choice([entity(f"f{n}"), tensor([n, 2, 3, 4]), b"broken"]) for n in range(8)]
    desk.ask(*(Message(body, f"k{n}", id=chance.choice(["", f"m{n}"])) for n, body in enumerate(bodies)))
    for cut in cuts:
        worker = desk.worker(**cut)
        try:
            for _ in range(chance.randint(1, 3)):
                worker.turn(0)
        except Killed:
            if chance.random() < 0.5:  # else the next one takes younger messages first
                desk.expire()
    worker = desk.worker()
    while worker.turn(0):
        pass
    desk.expire()
    while worker.turn(0):
        pass
    assert desk.lag == 0
    good = sum(body != b"broken" for body in bodies)
    assert (len(desk.logged), len(desk.answers), len(desk.letters)) == (good, good, 8 - good)
    assert {answer.key for answer in desk.answers} | {letter.key for letter in desk.letters} == {f"k{n}" for n in range(8)}
    desk.close()


def test_a_message_that_the_model_fails_at_is_a_dead_letter_after_some_tries(desk: Desk) -> None:
    desk.ask(Message(entity("a")), Message(entity("b", distance=666.0)), Message(entity("c")))
    desk.worker().turn(0)
    (letter,) = desk.letters
    assert (letter.headers["falaj-reason"], letter.headers["falaj-attempts"]) == ("bug", "3")
    assert [json.loads(answer.value)["score"] > 0 for answer in desk.answers] == [True, True]


def test_a_message_that_kills_its_process_takes_no_other_with_it(desk: Desk) -> None:
    desk.ask(Message(entity("a"), "a"), Message(entity("b", distance=667.0), "b"), Message(entity("c"), "c"))
    deaths = 0
    while desk.lag:
        try:
            desk.worker().turn(1)
        except Killed:
            deaths += 1
    assert deaths == 3
    assert [letter.key for letter in desk.letters] == ["b"]
    assert "died 3 times" in desk.letters[0].headers["falaj-message"]
    assert [answer.key for answer in desk.answers] == ["a", "c"]
    assert len(desk.logged) == 2


def test_messages_that_kill_their_process_in_turn_are_counted_each(desk: Desk) -> None:
    """The other one comes again only when this one has killed its process."""
    with_settings(desk, stream_batch=1, stream_visible_s=60.0)
    desk.ask(*(Message(entity(name, distance=667.0), name) for name in "ab"))
    held = MemoryStream(desk.source, visible_s=60.0)
    deaths = 0
    while desk.lag:
        both = held.consume("falaj", 2, 0)
        held.release("falaj", [both[deaths % len(both)]])
        try:
            desk.worker().turn(0)
        except Killed:
            deaths += 1
        assert deaths < 20
        desk.expire()
    assert sorted(letter.key for letter in desk.letters) == ["a", "b"]


def test_it_waits_for_a_model_and_for_streams_that_are_away(desk: Desk) -> None:
    desk.ask(*(Message(entity(f"f{n}")) for n in range(5)))
    worker = desk.worker(serves=False)
    desk.sink.is_away = True
    thread = threading.Thread(target=worker.run)
    thread.start()
    _until(lambda: worker.counts.waits > 2)
    assert worker.counts.in_hand == 5
    worker.predictor.serving = desk.serving()
    _until(lambda: len(desk.logged) == 5)
    before = worker.counts.waits
    _until(lambda: worker.counts.waits > before + 2)
    assert desk.sink.messages == []
    desk.sink.is_away = False
    _until(lambda: desk.lag == 0)
    assert len(desk.answers) == len(desk.logged) == 5
    worker.leave()
    thread.join(10)
    assert not thread.is_alive()
    assert {type(problem) for problem in desk.problems} == {Unavailable}
    assert len(desk.problems) == 2  # each is told once, however often it came


def test_a_full_disk_stops_the_stream_and_loses_nothing(desk: Desk) -> None:
    desk.ask(*(Message(entity(f"f{n}")) for n in range(5)))
    worker = desk.worker()
    log, is_full = worker.predictor.log, True

    def write(fd: int, data: bytes) -> int:
        import os

        if is_full:
            raise OSError(28, "No space left on device")
        return os.write(fd, data)

    log._write = write
    thread = threading.Thread(target=worker.run)
    thread.start()
    _until(lambda: worker.counts.waits > 2)
    assert (desk.answers, desk.letters, desk.lag) == ([], [], 5)
    is_full = False
    _until(lambda: desk.lag == 0)
    worker.leave()
    thread.join(10)
    assert len(desk.answers) == len(desk.logged) == 5


def test_leaving_while_something_is_away_gives_back_what_is_in_hand(desk: Desk) -> None:
    with_settings(desk, stream_visible_s=60.0)
    desk.ask(Message(entity()))
    desk.sink.is_away = True
    worker = desk.worker()
    worker.leave()
    with pytest.raises(Leaving):
        worker.turn(0)
    desk.sink.is_away = False
    assert desk.worker().turn(0) == 1
    assert len(desk.answers) == len(desk.logged) == 1


def test_an_answer_that_is_too_large_is_a_dead_letter_and_the_others_go_out(desk: Desk) -> None:
    worker = desk.worker()
    worker.streams.sink._largest = 400  # type: ignore[attr-defined]
    many = json.dumps({"requests": [json.loads(entity(f"{n}")) for n in range(9)]}).encode()
    desk.ask(Message(entity("a"), "a"), Message(many, "many"), Message(entity("b"), "b"))
    worker.turn(0)
    assert [answer.key for answer in desk.answers] == ["a", "b"]
    assert [letter.key for letter in desk.letters] == ["many"]
    assert desk.lag == 0


def test_under_the_wall_clock_a_message_that_waited_is_predicted_now(tmp_path: Path) -> None:
    desk = Desk(tmp_path, clock="wall")
    desk.ask(Message(entity("late", at=iso(NOW - timedelta(hours=1)))), Message(entity("odd", at=iso(NOW - timedelta(hours=3)))))
    taken = [(message, int((NOW - timedelta(hours=1)).timestamp() * 1000)) for message, _ in desk.source.messages]
    desk.source.messages[:] = taken
    desk.ask(Message(entity("none", at=None)))
    desk.worker().turn(0)
    assert [record["request"].get("flight_id") for record in desk.logged] == ["late", "none"]
    assert {record["at"] for record in desk.logged} == {iso(NOW)}
    assert "the stream took it at" in desk.letters[0].headers["falaj-message"]
    desk.close()


def test_a_foreign_message_with_odd_headers_is_answered(desk: Desk) -> None:
    odd = {f"h{n}": "x" for n in range(80)} | {"traceparent": "nonsense", "bad name": "x", "long": "y" * 9_000, "ctl": "a\x00b"}
    desk.source.messages.append((Message(entity(), "k" * 3_000 + "\n", odd, "i" * 3_000), 0))
    desk.worker().turn(0)
    assert len(desk.answers) == 1
    assert "trace" not in desk.logged[0]


def test_a_key_is_short_and_its_own() -> None:
    def key(name: str, position: str = "5") -> str:
        return key_of("requests", Delivery(Message(b"", id=name), position, 1, 0))

    assert len({key(""), key("5"), key("(5)"), key("x" * 500), key("x" * 501), key("a\nb"), key("a b")}) == 7
    assert len(key("x" * 500)) < 100


def test_a_note_that_cannot_be_read_is_told(desk: Desk) -> None:
    (desk.folder / "segments").mkdir(parents=True, exist_ok=True)
    (desk.folder / "stream.json").write_text("{")
    with pytest.raises(InvalidInput, match="no JSON"):
        desk.worker()


def test_what_others_log_is_not_read_back_for_ever(desk: Desk) -> None:
    worker = desk.worker()
    worker.turn(0)
    (desk.folder / "segments" / "000007.jsonl").write_text("")
    worker.effects.rest(0)
    assert json.loads((desk.folder / "stream.json").read_text())["sent"] == [7, 0]


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)
