"""The edge on a real socket: order, limits and endings, whatever the service behind it does."""

import asyncio
import json
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from falaj.core.errors import Denied, FalajError
from falaj.inference.exchange import Answer, Asker, Request, Respond
from falaj.inference.heads import Known
from falaj.inference.http import Edge
from falaj.inference.settings import ServerSettings

SETTINGS = ServerSettings("delay", "", "", "", "", max_body_bytes=1000, max_header_bytes=500, max_connections=20)
GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo:
    """Answers `/later` when it is told to, everything else at once; `/no` is not let in."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.seen: list[str] = []

    def admit(self, method: bytes, path: str, headers: Mapping[bytes, bytes]) -> Any:
        self.seen.append("refused")
        if path == "/no":
            raise Denied("You may not.")
        self.seen.pop()
        return path

    def admits_still(self, opened: Any) -> bool:
        return isinstance(opened, str)

    def quick(self, known: Known, body: bytes, started: float, asker: Asker) -> bool:
        return False

    def handle(self, request: Request, respond: Respond) -> None:
        self.seen.append(request.path)
        answer = Answer(200, json.dumps([request.path, request.body.decode()]).encode())
        if request.path == "/later":
            self.waiting.append(lambda: respond(answer))
        elif request.path == "/big":
            respond(Answer(200, b"x" * 4_000_000))
        else:
            respond(answer)

    def refused(self, error: FalajError) -> None:
        self.seen.append(error.code)


class Caller:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, ends_with: bytes = b"", within: float = 5.0) -> bytes:
        """Until the connection ends, or until what came ends so."""
        found = b""
        async with asyncio.timeout(within):
            while not ends_with or not found.endswith(ends_with):
                try:
                    piece = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
                except ConnectionResetError:
                    return found
                if not piece:
                    return found
                found += piece
        return found


def with_edge(test: Callable[[Edge, Echo, Callable[[], Caller]], Any], **changes: Any) -> None:
    async def run() -> None:
        echo = Echo()
        edge = Edge(echo, replace(SETTINGS, **changes))
        server = await asyncio.get_running_loop().create_server(edge.connection, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        callers: list[Caller] = []

        def call() -> Caller:
            callers.append(Caller(port))
            return callers[-1]

        async def sweep() -> None:
            while True:
                await asyncio.sleep(0.02)
                edge.sweep()

        sweeping = asyncio.create_task(sweep())
        try:
            await test(edge, echo, call)
        finally:
            sweeping.cancel()
            for caller in callers:
                caller.socket.close()
            server.close()
            await server.wait_closed()

    asyncio.run(run())


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in (b"Host: x", b"Content-Length: %d" % len(body), *headers))
    return b"POST " + path + b" HTTP/1.1\r\n" + lines + b"\r\n" + body


def statuses(data: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", data)]


def test_pipelined_requests_are_answered_in_the_order_in_which_they_came() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(post(b"/later", b"1") + GET + post(b"/later", b"2") + GET)
        await asyncio.sleep(0.05)
        assert echo.seen == ["/later"]
        for _ in range(2):
            while not echo.waiting:
                await asyncio.sleep(0.01)
            echo.waiting.pop()()
        found = b""
        while found.count(b"HTTP/1.1 200") < 4:
            found += await caller.read(b"]")
        assert [part.rpartition(b"\r\n\r\n")[2] for part in found.split(b"HTTP/1.1")[1:]] == [
            b'["/later", "1"]', b'["/hello", ""]', b'["/later", "2"]', b'["/hello", ""]',
        ]  # fmt: skip

    with_edge(test)


def test_a_thousand_pipelined_requests_are_all_answered() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        sending = asyncio.create_task(caller.send(post(b"/later", b"") + GET * 1000))
        await asyncio.sleep(0.1)
        echo.waiting.pop()()
        found = b""
        while found.count(b"HTTP/1.1 200") < 1001:
            found += await caller.read(b"]")
        await sending

    with_edge(test)


def test_nonsense_behind_a_good_request_is_refused_after_the_answer() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        for first in (post(b"/later", b"1"), GET):
            caller = call()
            await caller.send(first + b"\x00\x01nonsense\r\n\r\n")
            await asyncio.sleep(0.05)
            if echo.waiting:
                echo.waiting.pop()()
            assert statuses(await caller.read()) == [200, 400]

    with_edge(test)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"/x", b"", b"X: " + b"y" * 600), 431),
        (b"GET /" + b"y" * 600 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
        (
            b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b"y" * 1000 + b"\r\n1\r\nz\r\n",
            413,
        ),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\n", 400),
        (post(b"/x", b"", b"Authorization: a", b"authorization: b"), 400),
        (post(b"/no", b"body"), 403),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_connection_ends(data: bytes, status: int) -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(data)
        found = await caller.read()
        assert statuses(found) == [status]
        assert b"connection: close" in found
        body = json.loads(found.partition(b"\r\n\r\n")[2])
        assert body["error"]

    with_edge(test)


def test_a_request_that_is_refused_without_a_body_leaves_the_connection_open() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert statuses(await caller.read(b'["/hello", ""]')) == [403, 200]

    with_edge(test)


def test_a_body_in_pieces_is_put_together() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(
            b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 900 + b"0\r\n\r\n"
        )
        assert (await caller.read(b'"]')).endswith(b'["/x", "' + b"a" * 900 + b'"]')

    with_edge(test)


def test_a_caller_that_asks_first_is_told_to_go_on() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await caller.read(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await caller.send(b"ab")
        assert statuses(await caller.read(b"]")) == [200]

    with_edge(test)


def test_a_request_that_takes_too_long_is_ended_and_an_idle_connection_closed() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        slow, idle = call(), call()
        await slow.send(b"POST /x HTTP/1.1\r\nHost: x\r\n")
        assert statuses(await slow.read()) == [408]
        assert await idle.read() == b""
        assert not edge.connections

    with_edge(test, request_timeout_s=0.1, keep_alive_s=0)


def test_a_caller_that_has_sent_everything_still_gets_its_answer() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(post(b"/later", b"1"))
        caller.socket.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.05)
        echo.waiting.pop()()
        assert statuses(await caller.read()) == [200]

    with_edge(test)


def test_an_answer_to_a_caller_that_has_gone_is_dropped() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(post(b"/later", b"1"))
        await asyncio.sleep(0.05)
        caller.socket.close()
        await asyncio.sleep(0.05)
        echo.waiting.pop()()
        await asyncio.sleep(0.05)
        assert not edge.connections

    with_edge(test)


def test_a_caller_that_does_not_read_is_read_from_no_more_and_ended() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        for _ in range(200):
            if not edge.connections:
                break
            await asyncio.sleep(0.02)
        assert not edge.connections

    with_edge(test, request_timeout_s=0.2)


def test_one_connection_too_many_is_told_to_come_back() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        first = call()
        await asyncio.sleep(0.05)
        found = await call().read()
        assert statuses(found) == [429]
        assert b"retry-after: 1" in found
        await first.send(GET)
        assert statuses(await first.read(b"]")) == [200]

    with_edge(test, max_connections=1)


def test_draining_answers_what_was_taken_on_and_closes() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        busy, idle = call(), call()
        await busy.send(post(b"/later", b"1"))
        await asyncio.sleep(0.05)
        edge.drain()
        assert await idle.read() == b""
        echo.waiting.pop()()
        found = await busy.read()
        assert statuses(found) == [200]
        assert b"connection: close" in found

    with_edge(test)


def test_an_upgrade_is_not_taken_and_the_request_answered() -> None:
    async def test(edge: Edge, echo: Echo, call: Callable[[], Caller]) -> None:
        caller = call()
        await caller.send(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nrest")
        assert statuses(await caller.read()) == [200]

    with_edge(test)
