"""Messages in a Kafka topic: a consumer group a group, offsets committed in order, an idempotent producer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from falaj.adapters.kafka.link import error_of, options, translated
from falaj.adapters.kafka.places import Places
from falaj.core.errors import FalajError, Unavailable
from falaj.core.message import LARGEST_VALUE, Delivery, Message, check_messages

_ID = "falaj-id"
_TAIL = 1_000
"""Messages of each partition whose ids are read back before the first one is produced."""
_REMEMBERED = 100_000
_MOVED_ON = frozenset(
    {
        KafkaError._NO_OFFSET, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError._ASSIGNMENT_LOST, KafkaError._STATE,
    }
)  # fmt: skip
"""A commit that comes too late: the partition is another consumer's, which is handed the messages again."""


class KafkaStream:
    """capabilities: `durable` (acks=all; how much is Kafka's own setting), `dedup` (for one producer at a time: what it
    produced itself, and the last 1,000 messages of each partition when it was opened), `ordered` (within a partition, which
    the key chooses as Java's client does), `shared`.

    No `leases`: what is not acknowledged comes again when its consumer is closed or lost, or falls silent for five minutes.
    The visibility time is the session's: how long a consumer that died still holds its partitions.
    """

    capabilities: frozenset[str] = frozenset({"durable", "dedup", "ordered", "shared"})

    def __init__(
        self, url: str, name: str, *, visible_s: float = 30.0, largest: int = LARGEST_VALUE, timeout_s: float = 5.0
    ) -> None:
        """`url`: kafka://[user:password@]host:port[,host:port], or kafkas:// for TLS. Behind `?`: `ca`, `cert`, `key` (PEM files)
        and `sasl` (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512). Connects when it is first asked. Raises InvalidInput.
        """
        told, place = options(url)
        wait_ms = int(timeout_s * 1000)
        self._told = {**told, "log_level": 0, "error_cb": self._hear, "socket.timeout.ms": max(wait_ms, 1000)}
        self._name, self._where = name, f"The topic {name!r} at {place}"
        self._visible_s, self._largest, self._timeout_s = visible_s, largest, timeout_s
        self._consumers: dict[str, Any] = {}
        self._places: dict[str, Places] = {}
        self._lookers: dict[str, Any] = {}
        self._producer: Any = None
        self._ids: dict[str, bool] = {}
        """Whether it is stored; False while that is not known yet."""
        self._is_paused: set[str] = set()
        self._aside: list[Any] = []
        self._heard = time.monotonic()
        self._problem: FalajError | None = None

    def consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        with translated(self._where):
            consumer = self._consumer(group)
            if group in self._is_paused:
                self._is_paused.remove(group)
                consumer.resume(consumer.assignment())
            given, self._aside = self._aside, []
            if not given:
                given += consumer.consume(1, wait_s)  # asked for more, it would wait for all of them
            if given and len(given) < limit:
                given += consumer.consume(limit - len(given), 0)
            found = []
            for message in given:
                if message.error() is not None:
                    self._judge(message.error())
                    continue
                attempts = self._places[group].hand_out(message.partition(), message.offset())
                if attempts:
                    found.append(_delivery(message, attempts))
            if found:
                self._heard, self._problem = time.monotonic(), None
            elif time.monotonic() - self._heard > self._timeout_s:
                self._look_after()
            return found

    def acknowledge(self, group: str, deliveries: Sequence[Delivery]) -> None:
        if group not in self._consumers:
            return
        reached = self._places[group].acknowledge(_places(deliveries))
        if reached:
            offsets = [TopicPartition(self._name, partition, offset) for partition, offset in reached.items()]
            try:
                with translated(self._where):
                    self._consumers[group].commit(offsets=offsets, asynchronous=False)
            except Unavailable as exc:
                if not isinstance(exc.__cause__, KafkaException) or exc.__cause__.args[0].code() not in _MOVED_ON:
                    raise

    def release(self, group: str, deliveries: Sequence[Delivery]) -> None:
        if group in self._consumers:
            for partition, offset in self._places[group].release(_places(deliveries)).items():
                with translated(self._where):
                    self._consumers[group].seek(TopicPartition(self._name, partition, offset))

    def extend(self, group: str, deliveries: Sequence[Delivery]) -> None:
        """Stays in the group without being handed more."""
        consumer = self._consumers.get(group)
        if consumer is None:
            return
        with translated(self._where):
            consumer.pause(consumer.assignment())
            self._is_paused.add(group)
            self._aside += consumer.consume(1, 0)

    def produce(self, messages: Sequence[Message]) -> int:
        check_messages(messages, self._largest)
        if not messages:
            return 0
        with translated(self._where):
            producer = self._opened(any(message.id for message in messages))
            new = 0
            failed: list[Any] = []
            for message in messages:
                if message.id and message.id in self._ids:
                    continue
                new += 1
                self._send(producer, message, failed)
            left = producer.flush(self._timeout_s)
        if failed:
            raise error_of(self._where, failed[0])
        if left or any(message.id and not self._ids.get(message.id, True) for message in messages):
            # They stay in the client's queue: asked for again, they are waited for and not sent a second time.
            raise self._problem or Unavailable(
                f"{self._where} does not answer.", "check that Kafka runs there; falaj tries again."
            )
        self._problem = None
        return new

    def replay(self) -> Iterator[Delivery]:
        with translated(self._where):
            reader = Consumer({**self._told, "group.id": f"falaj-{secrets.token_hex(8)}", "enable.auto.commit": False})
        try:
            with translated(self._where):
                for partition in self._partitions(reader):
                    low, high = self._bounds(reader, partition)
                    for message in self._read(reader, partition, low, high):
                        yield _delivery(message, 0)
        finally:
            reader.close()

    def lag(self, group: str) -> int:
        """What lies between the group's offsets and the ends of the partitions."""
        with translated(self._where):
            looker = self._consumers.get(group) or self._lookers.get(group)
            if looker is None:
                told = {**self._told, "group.id": group, "enable.auto.commit": False}
                looker = self._lookers[group] = Consumer(told)
            partitions = self._partitions(looker)
            if not partitions:
                return 0
            places = [TopicPartition(self._name, partition) for partition in partitions]
            total = 0
            for place in looker.committed(places, timeout=self._timeout_s):
                low, high = self._bounds(looker, place.partition)
                total += high - (low if place.offset == OFFSET_INVALID or place.offset < low else place.offset)
            return total

    def close(self) -> None:
        if self._producer is not None:
            self._producer.flush(self._timeout_s)
        for consumer in (*self._consumers.values(), *self._lookers.values()):
            with suppress(KafkaException, RuntimeError):
                consumer.close()
        self._producer = None
        self._consumers.clear()
        self._lookers.clear()

    def _consumer(self, group: str) -> Any:
        if group not in self._consumers:
            self._make_topic(self._producer or Producer({**self._told}))
            session_ms = int(self._visible_s * 1000)
            consumer = Consumer({
                **self._told, "group.id": group, "enable.auto.commit": False, "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest", "session.timeout.ms": session_ms,
                "heartbeat.interval.ms": max(session_ms // 10, 100),
                "max.poll.interval.ms": max(300_000, session_ms), "queued.max.messages.kbytes": 8_192,
            })  # fmt: skip
            places = self._places[group] = Places()

            def moved(_consumer: Any, partitions: Any) -> None:
                places.forget(one.partition for one in partitions)

            consumer.subscribe([self._name], on_revoke=moved, on_lost=moved)
            self._consumers[group] = consumer
        return self._consumers[group]

    def _opened(self, needs_ids: bool) -> Any:
        if self._producer is None:
            producer = Producer({
                **self._told, "enable.idempotence": True, "acks": "all", "linger.ms": 2, "partitioner": "murmur2_random",
                "message.max.bytes": self._largest + 100_000, "delivery.timeout.ms": 120_000,
            })  # fmt: skip
            self._make_topic(producer)
            if needs_ids:
                self._learn()
            self._producer = producer
        return self._producer

    def _make_topic(self, asking: Any) -> None:
        """Asking as a producer lets Kafka make the topic, where it does that at all."""
        until = time.monotonic() + self._timeout_s
        while True:
            about = asking.list_topics(self._name, timeout=self._timeout_s).topics[self._name]
            if about.error is None:
                return
            if time.monotonic() > until:
                raise error_of(self._where, about.error)
            time.sleep(0.05)

    def _learn(self) -> None:
        reader = Consumer({**self._told, "group.id": f"falaj-{secrets.token_hex(8)}", "enable.auto.commit": False})
        try:
            for partition in self._partitions(reader):
                low, high = self._bounds(reader, partition)
                for message in self._read(reader, partition, max(low, high - _TAIL), high):
                    if found := _delivery(message, 0).message.id:
                        self._ids[found] = True
        finally:
            reader.close()

    def _send(self, producer: Any, message: Message, failed: list[Any]) -> None:
        given = {**message.headers, **({_ID: message.id} if message.id else {})}
        headers = [(name, text.encode()) for name, text in given.items()]

        def told(error: Any, _message: Any) -> None:
            if error is None:
                if message.id:
                    self._ids[message.id] = True
            else:
                self._ids.pop(message.id, None)
                failed.append(error)

        if message.id:
            self._ids[message.id] = False
            while len(self._ids) > _REMEMBERED:
                del self._ids[next(iter(self._ids))]
        while True:
            try:
                producer.produce(self._name, message.value, message.key.encode() or None, headers=headers, on_delivery=told)
                return
            except BufferError:  # its queue is full: wait until some are sent
                producer.poll(0.1)
            except KafkaException:
                self._ids.pop(message.id, None)
                raise

    def _partitions(self, asking: Any) -> list[int]:
        about = asking.list_topics(self._name, timeout=self._timeout_s).topics[self._name]
        return sorted(about.partitions)

    def _bounds(self, asking: Any, partition: int) -> tuple[int, int]:
        found = asking.get_watermark_offsets(TopicPartition(self._name, partition), timeout=self._timeout_s, cached=False)
        if found is None:
            raise Unavailable(f"{self._where} does not answer.", "check that Kafka runs there; falaj tries again.")
        return int(found[0]), int(found[1])

    def _read(self, reader: Any, partition: int, start: int, end: int) -> Iterator[Any]:
        if start >= end:
            return
        reader.assign([TopicPartition(self._name, partition, start)])
        until = time.monotonic() + self._timeout_s
        while time.monotonic() < until:
            for message in reader.consume(500, 0.2):
                until = time.monotonic() + self._timeout_s
                if message.error() is not None:
                    self._judge(message.error())
                    continue
                if message.offset() < end:
                    yield message
                if message.offset() >= end - 1:
                    return
        raise Unavailable(f"{self._where} stopped half-way.", "read it again.")

    def _look_after(self) -> None:
        """Silence may mean that there is nothing, or that nobody is there."""
        asking = next(iter(self._consumers.values()))
        asking.list_topics(self._name, timeout=self._timeout_s)
        self._heard = time.monotonic()

    def _judge(self, error: Any) -> None:
        """Most of what the client tells in between passes by itself, and `_look_after` sees what does not."""
        told = error_of(self._where, error)
        if not isinstance(told, Unavailable):
            raise told

    def _hear(self, error: Any) -> None:
        told = error_of(self._where, error)
        if not isinstance(told, Unavailable):
            self._problem = told


def _places(deliveries: Sequence[Delivery]) -> Iterator[tuple[int, int]]:
    for one in deliveries:
        partition, _, offset = one.position.partition(":")
        yield int(partition), int(offset)


def _delivery(message: Any, attempts: int) -> Delivery:
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers() or ()}
    key = (message.key() or b"").decode("utf-8", "replace")
    whole = Message(message.value() or b"", key, {n: v for n, v in headers.items() if n != _ID}, headers.get(_ID, ""))
    return Delivery(whole, f"{message.partition()}:{message.offset()}", attempts, int(message.timestamp()[1]))
