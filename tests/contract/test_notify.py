"""Both notifiers keep the contract; the webhook also signs, follows nobody and trusts no answer."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from falaj.adapters.local.notify import LogNotify
from falaj.adapters.local.webhook import SIGNATURE, WebhookNotify
from falaj.core.errors import InvalidInput, Unavailable
from falaj.testing.notify import MESSAGE, Delivered, NotifySuite


class Receiver(BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[Mapping[str, str], bytes]]] = []
    answer: ClassVar[tuple[int, Mapping[str, str], bytes]] = (204, {}, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((dict(self.headers.items()), body))
        self.reply()

    def do_GET(self) -> None:
        type(self).got.append((dict(self.headers.items()), b"GET"))
        self.reply()

    def reply(self) -> None:
        status, headers, body = type(self).answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the standard library's name
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Receiver]]]:
    receiver = type("Fresh", (Receiver,), {"got": [], "answer": (204, {}, b"")})
    http = ThreadingHTTPServer(("127.0.0.1", 0), receiver)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}/hook/T0KEN", receiver
    http.shutdown()
    http.server_close()
    thread.join()


class TestLogNotify(NotifySuite):
    @pytest.fixture
    def delivered(self, caplog: pytest.LogCaptureFixture) -> Delivered:
        caplog.set_level(logging.INFO, "falaj.alerts")
        return LogNotify(), lambda: [json.loads(record.message) for record in caplog.records]

    def test_a_message_cannot_forge_a_second_line(self, delivered: Delivered, caplog: pytest.LogCaptureFixture) -> None:
        notify, _ = delivered
        notify.send({"title": "one\nERROR two"})
        assert "\n" not in caplog.records[0].getMessage()


class TestWebhookNotify(NotifySuite):
    @pytest.fixture
    def delivered(self, server: tuple[str, type[Receiver]]) -> Delivered:
        url, receiver = server
        return WebhookNotify(url), lambda: [json.loads(body) for _, body in receiver.got]


def test_the_body_is_signed_with_the_time(server: tuple[str, type[Receiver]]) -> None:
    url, receiver = server
    WebhookNotify(url, b"secret", clock=lambda: 1_367_400_000.9).send(MESSAGE)
    ((headers, body),) = receiver.got
    mac = hmac.new(b"secret", b"1367400000." + body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE] == f"t=1367400000,v1={mac}"
    assert headers["X-Falaj-Id"] == MESSAGE["id"]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 500, 503])
def test_only_a_2xx_is_delivery_and_no_redirect_is_followed(server: tuple[str, type[Receiver]], status: int) -> None:
    url, receiver = server
    receiver.answer = (status, {"Location": url}, b"internal: secret of the receiver")
    with pytest.raises(Unavailable) as raised:
        WebhookNotify(url).send(MESSAGE)
    assert len(receiver.got) == 1
    assert "T0KEN" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_huge_answer_is_not_read(server: tuple[str, type[Receiver]]) -> None:
    url, receiver = server
    receiver.answer = (200, {}, b"x" * 5_000_000)
    WebhookNotify(url).send(MESSAGE)


def test_nobody_there_is_unavailable() -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    port = closed.server_address[1]
    closed.server_close()
    with pytest.raises(Unavailable, match="did not take"):
        WebhookNotify(f"http://127.0.0.1:{port}/T0KEN").send(MESSAGE)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "http://127.0.0.1.example.com/",
        "http://localhost.evil/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://user:pw@example.com/",
        "https:///path",
        "https://[::1",
        "http://169.254.169.254/latest",
        "https://example.com/a b",
        "",
    ],
)
def test_an_address_that_must_not_be_used_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        WebhookNotify(url)


@pytest.mark.parametrize("url", ["https://example.com/hook", "http://localhost:9/x", "http://[::1]:9/", "http://127.0.0.2/"])
def test_https_and_loopback_are_taken(url: str) -> None:
    assert WebhookNotify(url)
