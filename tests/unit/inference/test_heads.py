"""A head that is known is read as llhttp would read it, or not at all."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from falaj.core.errors import Denied, FalajError
from falaj.inference.exchange import Answer, Asker, Request, Respond
from falaj.inference.heads import LONGEST, MOST, Known
from falaj.inference.http import Edge
from falaj.inference.settings import ServerSettings
from tests.kits.wire import Wire

SETTINGS = ServerSettings("delay", "", "", "", "", max_body_bytes=1000, max_header_bytes=3000)
BODY = b'{"inputs":[]}'


class Told:
    """Answers everything at once, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, str, Mapping[bytes, bytes], bytes]] = []
        self.refusals: list[str] = []
        self.quickly = 0
        self.is_let_in = True

    def admit(self, method: bytes, path: str, headers: Mapping[bytes, bytes]) -> Any:
        if path == "/no" or not self.is_let_in:
            raise Denied("You may not.")
        return path

    def admits_still(self, opened: Any) -> bool:
        return isinstance(opened, str) and self.is_let_in

    def quick(self, known: Known, body: bytes, started: float, asker: Asker) -> bool:
        self.quickly += 1
        return False

    def handle(self, request: Request, respond: Respond) -> None:
        self.asked.append((request.method, request.path, dict(request.headers), request.body))
        respond(Answer(200, b"{}"))

    def refused(self, error: FalajError) -> None:
        self.refusals.append(error.code)


class Line:
    """One connection to an edge of its own."""

    def __init__(self, *, forgets: bool = False) -> None:
        self.told, self.wire = Told(), Wire()
        self.edge = Edge(self.told, SETTINGS)
        if forgets:
            self.edge.heads.learn = lambda *_: None  # type: ignore[method-assign]
        self.connection = self.edge.connection()
        self.connection.connection_made(self.wire)

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)


def post(body: bytes = BODY, *headers: bytes, path: bytes = b"/a", end: bytes = b"\r\n") -> bytes:
    lines = (b"POST %b HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers)
    return b"".join(line + end for line in (*lines, b"")) + body


def test_the_second_time_nothing_is_read_and_all_is_the_same() -> None:
    line = Line()
    for body in (b"{}", b"[]", b"{ }"):
        line.send(post(body, b"Authorization: Bearer x", b"Content-Type: application/json"))
    first, second, third = line.told.asked
    assert first[:3] == second[:3] == third[:3]
    assert [asked[3] for asked in line.told.asked] == [b"{}", b"[]", b"{ }"]
    assert line.told.quickly == 1, "the third is longer, and so its head is another"
    assert b"".join(line.wire.written).count(b"HTTP/1.1 200 OK") == 3


def test_only_heads_that_say_nothing_but_who_asks_are_plain() -> None:
    line = Line()
    for headers in ((b"Authorization: Bearer x",), (b"X-Falaj-Arm: challenger",), (b"X-Request-Id: 7",)):
        line.send(post(BODY, *headers))
    assert [known.is_plain for known in line.edge.heads._known.values()] == [True, False, False]


def test_who_may_come_in_is_asked_anew_each_time() -> None:
    line = Line()
    line.send(post())
    line.told.is_let_in = False
    line.send(post())
    assert len(line.told.asked) == 1
    assert line.told.refusals == ["denied"]


@pytest.mark.parametrize(
    "data",
    [
        post(path=b"/no", body=b""),
        post(BODY, end=b"\n"),
        post(BODY, b"Connection: close"),
        post(BODY, b"X-Long: " + b"x" * LONGEST),
        post() + post(),
        post()[:-1],
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_beyond_doubt_is_not_remembered(data: bytes) -> None:
    line = Line()
    line.send(data)
    assert not line.edge.heads._known


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    line = Line()
    for number in range(3 * MOST):
        line.send(post(BODY, b"X-Number: %d" % number))
        assert len(line.edge.heads._known) <= MOST
    assert len(line.told.asked) == 3 * MOST


PIECES = st.sampled_from(
    [
        post(),
        post(b"{}\r\n\r\n"),
        post(b"\r\n\r\n"),
        post(b""),
        post(BODY, b"X-Request-Id: 1"),
        post(BODY, b"X-Falaj-Arm: challenger"),
        post(BODY, end=b"\n"),
        post(BODY, b"Transfer-Encoding: chunked"),
        post(BODY, b"Content-Length: 3"),
        post(BODY, b"Expect: 100-continue"),
        post(BODY, path=b"/no"),
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 20\n\nx\r\n\r\n" + b"y" * 15,
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n",
        b"\r",
        b"{}",
        post()[:30],
        post()[30:],
    ]
)


@given(st.lists(st.lists(PIECES, min_size=1, max_size=3).map(b"".join), min_size=1, max_size=8))
@example([post(), post(), post()[:30], post()[30:], post()])
@example([post(), b"\r", post(), b"\n", post()])
def test_a_caller_sees_no_difference(chunks: list[bytes]) -> None:
    """Whatever comes, in whatever pieces: the service is asked the same, and the bytes that go back are the same."""
    knows, forgets = Line(), Line(forgets=True)
    for data in chunks * 2:
        for line in (knows, forgets):
            if not line.wire.is_closed:
                line.send(data)
        assert knows.told.asked == forgets.told.asked
        assert knows.told.refusals == forgets.told.refusals
        assert b"".join(knows.wire.written) == b"".join(forgets.wire.written)
        assert knows.wire.is_closed == forgets.wire.is_closed
