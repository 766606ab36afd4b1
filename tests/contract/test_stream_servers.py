"""The streams of real brokers keep the contract: a Redis, a NATS with JetStream, and librdkafka's own broker for Kafka.

That last one is a mock: it speaks Kafka's protocol over TCP to any client and keeps offsets of groups, but it stores nothing
and has none of Kafka's replication. What depends on those is not shown here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from falaj.adapters.kafka.link import options
from falaj.adapters.kafka.stream import KafkaStream
from falaj.adapters.nats.stream import NatsStream
from falaj.adapters.redis.stream import RedisStream
from falaj.core.errors import Denied, InvalidInput, Unavailable
from falaj.core.message import Message
from falaj.ports.stream import Stream
from falaj.testing.stream import GROUP, Opened, StreamSuite, took, values
from tests.kits.servers import Broker, free_port, kafka_server, nats_server, redis_server

pytestmark = pytest.mark.slow


class ServerSuite(StreamSuite):
    """Each test has a stream of its own on one server; the test that takes the broker away, a server of its own."""

    visible_s = 1.0

    def serve(self, folder: Path, port: int = 0) -> AbstractContextManager[str]:
        raise NotImplementedError

    def open_stream(self, url: str, name: str, **options: Any) -> Stream:
        raise NotImplementedError

    @pytest.fixture
    def opened(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
        name = f"requests-{secrets.token_hex(4)}"
        streams: list[Stream] = []
        self.server, self.folder = ExitStack(), tmp_path
        if not self.fixture or "comes_back" in request.node.name:
            self.url = self.server.enter_context(self.serve(tmp_path))
        else:
            self.url = request.getfixturevalue(self.fixture)

        def open_one(**options: Any) -> Stream:
            streams.append(self.open_stream(self.url, name, **options))
            return streams[-1]

        yield open_one
        for stream in streams:
            stream.close()
        self.server.close()

    @contextmanager
    def away(self) -> Iterator[None]:
        self.server.close()
        yield
        self.server.enter_context(self.serve(self.folder, int(self.url.rpartition(":")[2].partition("/")[0])))

    fixture = ""


class TestRedisStream(ServerSuite):
    visible_s = 0.3
    fixture = "redis_url"
    serve = staticmethod(redis_server)

    def open_stream(self, url: str, name: str, **options: Any) -> Stream:
        return RedisStream(url, name, **options)


class TestNatsStream(ServerSuite):
    fixture = "nats_url"
    serve = staticmethod(nats_server)

    def open_stream(self, url: str, name: str, **options: Any) -> Stream:
        return NatsStream(url, name, **options)


class TestKafkaStream(ServerSuite):
    """Against librdkafka's own broker, one each test: a group needs three seconds to form there, longer where it had others."""

    visible_s = 6.0

    def serve(self, folder: Path, port: int = 0) -> AbstractContextManager[str]:
        return kafka_server()

    def open_stream(self, url: str, name: str, **options: Any) -> Stream:
        return KafkaStream(url, name, **{"timeout_s": 2.0, "visible_s": self.visible_s, **options})

    @contextmanager
    def away(self) -> Iterator[None]:
        """It keeps what it has in memory alone, so it is stopped and goes on."""
        assert isinstance(self.url, Broker)
        os.kill(self.url.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.url.pid, signal.SIGCONT)

    def test_a_consumer_that_waits_stays_in_its_group_and_is_handed_no_more(self, opened: Opened) -> None:
        stream = opened()
        stream.produce([Message(b"%d" % n, "k") for n in range(50)])
        found = took(stream, 5)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            stream.extend(GROUP, found)
            time.sleep(0.1)
        stream.acknowledge(GROUP, found)
        assert values(took(stream, 45)) == [b"%d" % n for n in range(5, 50)]


# --- addresses ---


@pytest.mark.parametrize(("kind", "url"), [
    (KafkaStream, "kafka://u:hush@127.0.0.1:{port}?sasl=PLAIN"), (NatsStream, "nats://u:hush@127.0.0.1:{port}"),
    (RedisStream, "redis://:hush@127.0.0.1:{port}/0"),
])  # fmt: skip
def test_a_broker_that_is_away_is_named_without_its_password(kind: Any, url: str) -> None:
    stream = kind(url.format(port=free_port()), "requests", timeout_s=0.5)
    for call in (lambda: stream.produce([Message(b"")]), lambda: stream.lag("g"), lambda: list(stream.replay())):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as told:
            call()
        assert "hush" not in str(told.value)
    stream.close()


@pytest.mark.parametrize(("kind", "url"), [
    (kind, url)
    for kind in (KafkaStream, NatsStream, RedisStream)
    for url in ("", "nonsense", "http://u:hush@h", "kafka://", "nats://?ca=x&hush=y", "redis://h/0?decode_responses=1", "tls://", "kafka://h?acks=0")
])  # fmt: skip
def test_an_address_that_is_none_is_refused_without_showing_it(kind: Any, url: str) -> None:
    with pytest.raises(InvalidInput, match=r"no .* address") as told:
        kind(url, "requests")
    assert "hush" not in str(told.value)


def test_an_address_says_how_kafka_is_reached() -> None:
    told, place = options("kafkas://us%40er:pa%3Ass@one:1,two:2?ca=/ca.pem&sasl=SCRAM-SHA-256")
    assert place == "one:1,two:2"
    assert (told["security.protocol"], told["sasl.mechanism"], told["bootstrap.servers"]) == ("SASL_SSL", "SCRAM-SHA-256", place)
    assert (told["sasl.username"], told["sasl.password"], told["ssl.ca.location"]) == ("us@er", "pa:ss", "/ca.pem")


def test_a_nats_that_wants_a_password_denies(tmp_path: Path) -> None:
    with nats_server(tmp_path, 0, "--user", "u", "--pass", "right") as url:
        wrong = NatsStream(url.replace("nats://", "nats://u:wrong@"), "requests", timeout_s=2)
        with pytest.raises(Denied, match="refuses") as told:
            wrong.produce([Message(b"")])
        assert "wrong" not in str(told.value)
        wrong.close()
        right = NatsStream(url.replace("nats://", "nats://u:right@"), "requests", timeout_s=2)
        assert right.produce([Message(b"")]) == 1
        right.close()


def test_a_wait_that_ends_between_two_requests_of_the_client_is_no_broker_that_does_not_answer(nats_url: str) -> None:
    stream = NatsStream(nats_url, f"requests-{secrets.token_hex(4)}")
    stream.consume(GROUP, 2, 0.05)

    async def late(*_: Any, **__: Any) -> list[Any]:
        raise TimeoutError

    stream._readers[GROUP].fetch = late
    assert stream.consume(GROUP, 2, 0.05) == []
    stream.close()


def test_nats_keeps_what_it_took_through_kill_9(tmp_path: Path) -> None:
    with nats_server(tmp_path) as url:
        stream = NatsStream(url, "requests", timeout_s=2)
        stream.produce([Message(b"%d" % n, id=f"{n}") for n in range(10)])
        stream.acknowledge(GROUP, took(stream, 4))
        for process in psutil.Process().children():
            if process.name().startswith("nats-server") and url.rpartition(":")[2] in process.cmdline():
                process.kill()
        with nats_server(tmp_path, int(url.rpartition(":")[2])):
            until = time.monotonic() + 20
            while time.monotonic() < until:
                with contextlib.suppress(Unavailable):
                    if stream.lag(GROUP) == 6:
                        break
            # An acknowledgement of the last moment may be gone: then a message comes again, and none is missing.
            seen = set(values(took(stream, 6)))
            while not seen >= {b"%d" % n for n in range(4, 10)} and time.monotonic() < until + 20:
                seen |= set(values(took(stream, 1)))
            assert seen >= {b"%d" % n for n in range(4, 10)}
            stream.close()


def test_a_redis_stream_that_nobody_reads_refuses_more_and_one_that_is_read_is_trimmed(redis_url: str) -> None:
    stream = RedisStream(redis_url, f"kept-{secrets.token_hex(4)}", keep=10)
    stream.produce([Message(b"%d" % n) for n in range(10)])
    with pytest.raises(Unavailable, match="still needed"):
        stream.produce([Message(b"more", id="more")])
    assert stream.lag("slow") == 10
    stream.acknowledge("fast", took(stream, 10, "fast"))
    slow = took(stream, 5, "slow")
    with pytest.raises(Unavailable, match="still needed"):
        stream.produce([Message(b"more", id="more")])
    stream.acknowledge("slow", slow)
    assert stream.produce([Message(b"more", id="more")]) == 1  # refused twice, stored once
    assert values(took(stream, 6, "slow")) == [b"%d" % n for n in range(5, 10)] + [b"more"]
    stream.close()
