"""Dead letters are told without their contents, and sent through once more with a record of who asked."""

from datetime import UTC, datetime

import pytest

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.adapters.memory.stream import Channel, MemoryStream
from falaj.core.actor import Actor
from falaj.core.errors import Denied, Unavailable
from falaj.core.message import Message
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.serving.letters import Letters

ENGINEER, READER = Actor("eve", "person", ("ml_engineer",)), Actor("ann", "person", ("auditor",))
NAMES = {"source": "requests", "sink": "answers", "dead": "requests.dead", "group": "falaj"}
DELAY = Ref("endpoint", "delay")


class Post:
    def __init__(self) -> None:
        self.channels = {name: Channel() for name in ("requests", "answers", "requests.dead")}
        self.kernel = Kernel(MemoryLedger(), RolePolicy(), lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.letters = Letters(self.kernel, self.stream)
        for n in range(3):
            headers = {"traceparent": "00-ab", "falaj-reason": "invalid_input", "falaj-attempts": "1", "falaj-position": f"{n}"}
            named = headers | ({"falaj-request": "m"} if n else {})
            self.stream("requests.dead").produce([Message(b"hush", f"k{n}", named, f"dead:{n}")])

    def stream(self, name: str) -> MemoryStream:
        return MemoryStream(self.channels[name])

    def requests(self) -> list[Message]:
        return [one.message for one in self.stream("requests").replay()]


def test_dead_letters_are_told_with_their_reason_and_without_their_contents() -> None:
    post = Post()
    post.stream("requests").produce([Message(b"waits")])
    told = post.letters.look(NAMES, 2)
    assert (told["lag"], told["dead_letters"], told["dead"]) == (1, 3, "requests.dead")
    assert [(one["from"], one["reason"], one["attempts"], one["bytes"]) for one in told["newest"]] == [
        ("1", "invalid_input", "1", 4), ("2", "invalid_input", "1", 4)
    ]  # fmt: skip
    assert "hush" not in str(told)
    assert post.letters.look(NAMES, 0)["newest"] == []


def test_a_letter_goes_through_once_more_as_it_came_under_a_new_id() -> None:
    post = Post()
    assert post.letters.replay(ENGINEER, DELAY, names=NAMES, limit=2, reason="mended") == {"sent": 2, "left": 1}
    assert post.requests() == [
        Message(b"hush", "k0", {"traceparent": "00-ab"}, "0~0"),
        Message(b"hush", "k1", {"traceparent": "00-ab"}, "m~1"),
    ]
    (event,) = list(post.kernel.ledger.events())
    assert (event.verb, str(event.subject), event.facts["letters"], event.facts["reason"]) == (
        "stream.replay", "endpoint/delay", 2, "mended"
    )  # fmt: skip
    assert "hush" not in str(event)
    assert post.letters.replay(ENGINEER, DELAY, names=NAMES, limit=10, reason="mended") == {"sent": 1, "left": 0}


def test_who_may_not_send_them_sends_nothing() -> None:
    post = Post()
    with pytest.raises(Denied):
        post.letters.replay(READER, DELAY, names=NAMES, limit=10, reason="why not")
    assert (post.requests(), post.letters.look(NAMES, 0)["dead_letters"]) == ([], 3)


def test_letters_that_could_not_be_sent_wait_on() -> None:
    post = Post()
    post.channels["requests"].is_away = True
    with pytest.raises(Unavailable):
        post.letters.replay(ENGINEER, DELAY, names=NAMES, limit=10, reason="mended")
    post.channels["requests"].is_away = False
    assert post.letters.replay(ENGINEER, DELAY, names=NAMES, limit=10, reason="mended") == {"sent": 3, "left": 0}
    assert len(post.requests()) == 3
