"""What endpoints could not answer: how much waits on their streams, and dead letters sent through once more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from falaj.core.errors import FalajError
from falaj.core.message import Delivery, Message
from falaj.core.moments import from_millis, iso
from falaj.core.ref import Ref
from falaj.ports.stream import Stream
from falaj.stages.action import Act, Kernel, action

GROUP = "falaj-letters"
"""Its place on a stream of dead letters: everything before it was sent through once more."""
_OURS = "falaj-"
_AT_ONCE = 100


class Letters:
    def __init__(self, kernel: Kernel, opened: Callable[[str], Stream]) -> None:
        """`opened` gives the stream of a name."""
        self.kernel = kernel
        self.opened = opened

    def look(self, names: Mapping[str, Any], newest: int) -> dict[str, Any]:
        """`names`: as in `Wanted.stream`. The bodies of dead letters may be personal and are not shown. Raises Unavailable."""
        dead = self.opened(str(names["dead"]))
        return {
            "source": names["source"],
            "sink": names["sink"],
            "dead": names["dead"],
            "group": names["group"],
            "lag": self.opened(str(names["source"])).lag(str(names["group"])),
            "dead_letters": dead.lag(GROUP),
            "newest": [_told(one) for one in deque(dead.replay(), maxlen=newest)] if newest else [],
        }

    @action("stream.replay")
    def replay(self, act: Act, endpoint: Ref, *, names: Mapping[str, Any], limit: int, reason: str) -> dict[str, Any]:
        """Sends up to `limit` dead letters through once more, oldest first, as they first came. Raises Unavailable.

        It is recorded first: a broker that fails in between leaves letters that were recorded and not sent, and they wait on.
        """
        dead, source = self.opened(str(names["dead"])), self.opened(str(names["source"]))
        found: list[Delivery] = []
        while len(found) < limit and (more := dead.consume(GROUP, min(limit - len(found), _AT_ONCE), 0.5)):
            found += more
        try:
            with act.change() as draft:
                draft.note(stream=names["dead"], letters=len(found), reason=reason)
            for start in range(0, len(found), _AT_ONCE):
                part = found[start : start + _AT_ONCE]
                source.produce([_again(one) for one in part])
                dead.acknowledge(GROUP, part)
        except FalajError:
            dead.release(GROUP, found)
            raise
        return {"sent": len(found), "left": dead.lag(GROUP)}


def _again(letter: Delivery) -> Message:
    """The request as it came. Its id is a new one, or it would be taken for the old; and the same if it is sent twice."""
    message = letter.message
    headers = {name: text for name, text in message.headers.items() if not name.lower().startswith(_OURS)}
    first = message.headers.get(f"{_OURS}request") or message.headers.get(f"{_OURS}position", "")
    return Message(message.value, message.key, headers, f"{first}~{letter.position}")


def _told(letter: Delivery) -> dict[str, Any]:
    headers = letter.message.headers
    return {
        "position": letter.position,
        "at": iso(from_millis(letter.at_ms)),
        "reason": headers.get(f"{_OURS}reason", ""),
        "attempts": headers.get(f"{_OURS}attempts", ""),
        "from": headers.get(f"{_OURS}position", ""),
        "bytes": len(letter.message.value),
    }
