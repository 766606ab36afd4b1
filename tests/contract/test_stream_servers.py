"""The streams of real brokers keep the contract: a Redis, a NATS with JetStream, and librdkafka's own broker for Kafka.

That last one is a mock: it speaks Kafka's protocol over TCP to any client and keeps offsets of groups, but it stores nothing
and has none of Kafka's replication. What depends on those is not shown here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.kafka.stream import KafkaStream
from falaj.adapters.nats.stream import NatsStream
from falaj.adapters.redis.stream import RedisStream
from falaj.ports.stream import Stream
from falaj.testing.stream import Opened, StreamSuite
from tests.kits.servers import kafka_server, nats_server, redis_server


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
