"""What every stream must keep. Subclass `StreamSuite`, give it an `opened` fixture, and run it with pytest."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from falaj.core.errors import InvalidInput, Unavailable
from falaj.ports.stream import Delivery, Message, Stream

Opened = Callable[..., Stream]
"""Opens one and the same, new stream each time, with `visible_s` and `largest` as they are given."""
PATIENCE_S = 30.0
GROUP = "readers"


class StreamSuite:
    """The contract of `ports.stream`. What a stream does not claim to be capable of is left out."""

    visible_s = 1.0
    """The shortest visibility time that the stream can be tested with."""

    @pytest.fixture
    def opened(self) -> Iterator[Opened]:
        raise NotImplementedError("give the suite an `opened` fixture, which closes what it opened")

    def away(self) -> AbstractContextManager[None]:
        """Within it, the broker does not answer."""
        pytest.skip("this broker cannot be taken away")

    def test_a_message_comes_out_as_it_went_in(self, opened: Opened) -> None:
        stream = opened()
        whole = Message(b"\0\xff\n{}", "مفتاح 1", {"traceparent": "00-ab-cd-01", "X-Any_1": "ж, Ünï"}, "id-1")
        assert stream.produce([whole, Message(b"")]) == 2
        second, first = sorted(took(stream, 2), key=lambda one: len(one.message.value))  # of two keys, in any order
        assert (first.message, second.message) == (whole, Message(b""))
        assert abs(first.at_ms - time.time() * 1000) < 600_000
        assert first.attempts == second.attempts == 1

    def test_an_empty_stream_answers_after_the_wait(self, opened: Opened) -> None:
        stream = opened()
        assert stream.consume(GROUP, 10, 0.01) == []
        assert stream.produce([]) == 0

    def test_no_more_come_than_were_asked_for_oldest_first(self, opened: Opened) -> None:
        stream = opened()
        stream.produce([Message(b"%d" % n, "k") for n in range(7)])
        seen: list[bytes] = []
        while len(seen) < 7:
            found = stream.consume(GROUP, 3, PATIENCE_S)
            assert 1 <= len(found) <= 3
            seen += values(found)
        assert seen == [b"%d" % n for n in range(7)]

    def test_what_was_acknowledged_never_comes_again(self, opened: Opened) -> None:
        stream = opened()
        stream.produce([Message(b"%d" % n, "k") for n in range(4)])
        stream.acknowledge(GROUP, took(stream, 4))
        stream.close()
        again = opened()
        again.produce([Message(b"new", "k")])
        assert values(took(again, 1)) == [b"new"]
        assert again.consume(GROUP, 10, 0.2) == []

    def test_what_a_closed_consumer_left_comes_to_the_next(self, opened: Opened) -> None:
        stream = opened()
        stream.produce([Message(b"%d" % n, "k") for n in range(4)])
        found = took(stream, 4)
        stream.acknowledge(GROUP, found[:2])
        stream.close()
        again = took(opened(), 2)
        assert values(again) == [b"2", b"3"]
        assert [one.position for one in again] == [one.position for one in found[2:]]

    def test_acknowledging_out_of_order_loses_nothing(self, opened: Opened) -> None:
        stream = opened()
        stream.produce([Message(b"%d" % n, "k") for n in range(4)])
        found = took(stream, 4)
        stream.acknowledge(GROUP, [found[3], found[1]])
        stream.close()
        left = opened()
        seen = set(values(left.consume(GROUP, 10, PATIENCE_S)))
        until = time.monotonic() + PATIENCE_S
        while not {b"0", b"2"} <= seen and time.monotonic() < until:
            seen |= set(values(left.consume(GROUP, 10, 0.2)))
        assert {b"0", b"2"} <= seen

    def test_acknowledging_twice_or_what_is_not_ours_changes_nothing(self, opened: Opened) -> None:
        stream = opened()
        stream.produce([Message(b"a"), Message(b"b")])
        first, second = took(stream, 2)
        for _ in range(3):
            stream.acknowledge(GROUP, [first, first])
        stream.acknowledge(GROUP, [])
        assert settled(stream, 1) == 1
        stream.acknowledge(GROUP, [first, second])
        assert settled(stream, 0) == 0

    def test_what_is_released_comes_at_once_and_its_attempts_are_counted(self, opened: Opened) -> None:
        stream = opened(visible_s=60.0)
        stream.produce([Message(b"poison")])
        attempts, positions = [], set()
        for _ in range(4):
            (found,) = took(stream, 1)
            attempts.append(found.attempts)
            positions.add(found.position)
            stream.release(GROUP, [found])
            stream.release(GROUP, [found])
        assert attempts == [1, 2, 3, 4]
        assert len(positions) == 1

    def test_what_is_not_acknowledged_in_time_comes_again(self, opened: Opened) -> None:
        stream = opened(visible_s=self.visible_s)
        needs(stream, "leases")
        stream.produce([Message(b"slow")])
        (first,) = took(stream, 1)
        other = opened(visible_s=self.visible_s)
        (second,) = took(other, 1)
        assert second.position == first.position
        if "counts" in other.capabilities:
            assert second.attempts == 2

    def test_what_is_extended_stays_with_its_consumer(self, opened: Opened) -> None:
        stream, other = opened(visible_s=self.visible_s), opened(visible_s=self.visible_s)
        needs(stream, "leases")
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            taken, longest_s = extended(stream, other, self.visible_s)
            if longest_s < self.visible_s / 2:
                assert taken == []
                assert settled(stream, 0) == 0
                return
        pytest.skip("this machine is too busy to extend in time")

    def test_a_key_keeps_its_order(self, opened: Opened) -> None:
        stream = opened()
        stream.produce([Message(b"%d" % n, f"k{n % 7}") for n in range(300)])
        found = took(stream, 300)
        assert in_order(found)
        assert len({one.position for one in found}) == 300

    def test_two_consumers_share_the_work_and_lose_nothing(self, opened: Opened) -> None:
        stream = opened(visible_s=60.0)
        stream.produce([Message(b"%d" % n, f"k{n % 40}") for n in range(400)])
        seen: list[list[Delivery]] = [[], []]
        failed: list[Exception] = []
        consumers = [opened(visible_s=60.0) for _ in seen]

        def work(own: int) -> None:
            until = time.monotonic() + PATIENCE_S
            try:
                while len(set(values([*seen[0], *seen[1]]))) < 400 and time.monotonic() < until:
                    with contextlib.suppress(Unavailable):  # on a busy machine: asked again
                        found = consumers[own].consume(GROUP, 5, 0.1)
                        seen[own] += found
                        acknowledged(consumers[own], found)
                    time.sleep(0.001)
            except Exception as exc:  # told by the assert below
                failed.append(exc)

        threads = [threading.Thread(target=work, args=(own,)) for own in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE_S)
        assert not failed
        assert {int(value) for value in values([*seen[0], *seen[1]])} == set(range(400))
        if "leases" in stream.capabilities:  # without them, a consumer that joins may be handed what another still had
            assert len(seen[0]) + len(seen[1]) == 400
        assert settled(stream, 0) == 0

    def test_a_key_is_never_with_two_consumers_at_once(self, opened: Opened) -> None:
        one, other = opened(visible_s=60.0), opened(visible_s=60.0)
        needs(one, "ordered")
        needs(one, "leases")
        one.produce([Message(b"a0", "a"), Message(b"a1", "a"), Message(b"b0", "b"), Message(b"none")])
        assert values(one.consume(GROUP, 1, PATIENCE_S)) == [b"a0"]
        assert values(other.consume(GROUP, 10, PATIENCE_S)) == [b"b0", b"none"]
        assert values(one.consume(GROUP, 10, PATIENCE_S)) == [b"a1"]

    def test_each_group_is_handed_everything(self, opened: Opened) -> None:
        stream, other = opened(), opened()
        stream.produce([Message(b"%d" % n, "k") for n in range(5)])
        stream.acknowledge(GROUP, took(stream, 5))
        assert values(took(other, 5, "late")) == [b"%d" % n for n in range(5)]
        assert settled(other, 5, "late") == 5

    def test_the_lag_goes_to_zero(self, opened: Opened) -> None:
        stream = opened()
        assert stream.lag(GROUP) == 0
        stream.produce([Message(b"%d" % n) for n in range(10)])
        assert settled(stream, 10) == 10
        found = took(stream, 10)
        stream.acknowledge(GROUP, found[:4])
        stream.acknowledge(GROUP, found[4:])
        assert settled(stream, 0) == 0
        assert opened().lag(GROUP) == 0

    def test_an_id_is_stored_once(self, opened: Opened) -> None:
        stream = opened()
        needs(stream, "dedup")
        assert stream.produce([Message(b"1", id="one"), Message(b"2", id="two"), Message(b"1", id="one")]) == 2
        assert stream.produce([Message(b"2", id="two"), Message(b"3", id="three")]) == 1
        stream.close()
        again = opened()
        assert again.produce([Message(b"3", id="three"), Message(b"1", id="one"), Message(b"4", id="four")]) == 1
        assert sorted(values(again.replay())) == [b"1", b"2", b"3", b"4"]

    def test_messages_without_an_id_are_all_stored(self, opened: Opened) -> None:
        stream = opened()
        assert stream.produce([Message(b"same"), Message(b"same")]) == 2
        assert stream.produce([Message(b"same")]) == 1
        assert values(took(stream, 3)) == [b"same"] * 3

    def test_a_message_that_is_too_large_is_refused_with_its_batch(self, opened: Opened) -> None:
        stream = opened(largest=10_000)
        stream.produce([Message(b"x" * 10_000)])
        for wrong in (
            Message(b"x" * 10_001),
            Message(b"", "k" * 1_001),
            Message(b"", id="a\nb"),
            Message(b"", headers={"": "x"}),
            Message(b"", headers={"a b": "x"}),
            Message(b"", headers={"a": "b\r\nc: d"}),
            Message(b"", headers={f"h{n}": "" for n in range(65)}),
        ):
            with pytest.raises(InvalidInput):
                stream.produce([Message(b"fine"), wrong])
        assert [len(one.message.value) for one in stream.replay()] == [10_000]

    def test_replaying_is_the_same_each_time_and_takes_from_nobody(self, opened: Opened) -> None:
        stream = opened()
        assert list(stream.replay()) == []
        stream.produce([Message(b"%d" % n, f"k{n % 3}", {"n": f"{n}"}, f"id-{n}") for n in range(50)])
        once = list(stream.replay())
        found = took(stream, 50)
        stream.acknowledge(GROUP, found)
        assert list(stream.replay()) == once
        assert in_order(once)
        assert {one.attempts for one in once} == {0}
        by_position = {one.position: one.message for one in found}
        assert {one.position: one.message for one in once} == by_position

    def test_a_broker_that_comes_back_is_used_again_without_opening_anything(self, opened: Opened) -> None:
        stream, consumer = opened(), opened()
        stream.produce([Message(b"before", "k")])
        consumer.acknowledge(GROUP, took(consumer, 1))
        with self.away():
            for call in (
                lambda: stream.produce([Message(b"meanwhile", "k", id="again")]),
                lambda: consumer.consume(GROUP, 1, 0.2),
                lambda: stream.lag(GROUP),
            ):
                refused(call)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                stream.produce([Message(b"after", "k", id="again")])
                break
            except Unavailable:
                assert time.monotonic() < until
        if "durable" not in stream.capabilities:
            consumer = opened()
        seen: list[bytes] = []
        while b"after" not in seen and b"meanwhile" not in seen:
            assert time.monotonic() < until
            with patient():
                seen += values(consumer.consume(GROUP, 1, 0.2))


def needs(stream: Stream, capability: str) -> None:
    if capability not in stream.capabilities:
        pytest.skip(f"this stream is not capable of {capability}")


def took(stream: Stream, count: int, group: str = GROUP) -> list[Delivery]:
    """Exactly so many messages, however many calls they take."""
    found: list[Delivery] = []
    until = time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < until:
        found += stream.consume(group, count - len(found), 0.5)
    assert len(found) == count
    return found


def acknowledged(stream: Stream, found: list[Delivery]) -> None:
    """A broker that does not answer is asked again."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return stream.acknowledge(GROUP, found)
        except Unavailable:
            if time.monotonic() > until:
                raise


def extended(stream: Stream, other: Stream, visible_s: float) -> tuple[list[Delivery], float]:
    """One message is extended for longer than its visibility time: what `other` was handed of it, and the longest pause."""
    begun = last = time.monotonic()
    stream.produce([Message(b"long")])
    found, taken, longest_s = took(stream, 1), [], 0.0
    while last < begun + 2.5 * visible_s:
        stream.extend(GROUP, found)
        taken += other.consume(GROUP, 1, visible_s / 5)
        last, longest_s = (now := time.monotonic()), max(longest_s, now - last)
    stream.acknowledge(GROUP, found)
    return taken, longest_s


def settled(stream: Stream, wanted: int, group: str = GROUP) -> int:
    """The lag, once it is what is wanted; a broker may tell it a little late."""
    until = time.monotonic() + PATIENCE_S
    while (seen := stream.lag(group)) != wanted and time.monotonic() < until:
        time.sleep(0.05)
    return seen


def values(found: Any) -> list[bytes]:
    return [one.message.value for one in found]


def in_order(found: list[Delivery]) -> bool:
    last: dict[str, int] = {}
    for one in found:
        if int(one.message.value) <= last.get(one.message.key, -1):
            return False
        last[one.message.key] = int(one.message.value)
    return True


def refused(call: Callable[[], Any]) -> None:
    """A client may need a moment to see that its broker is gone."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            call()
        except Unavailable:
            return
    pytest.fail("a broker that is away is Unavailable")


@contextmanager
def patient() -> Iterator[None]:
    try:
        yield
    except Unavailable:
        time.sleep(0.05)
