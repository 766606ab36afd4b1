"""Sends broken, hostile, slow and half requests to a real endpoint: each is refused as it should be, and the server lives on.

    python -m tests.fuzz.requests --rounds 100000 --seed 1

Stops at the first answer that is not right and says how to get it again. In between, good requests must get the very same scores
as before; at the end the process must be the same, and hold no more memory and no more connections than after the first rounds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import psutil

from tests.fuzz import bodies, frames, shapes
from tests.fuzz.wire import Answer, Wire, exchange
from tests.kits.endpoint import Installation

CODES = {"invalid_input", "not_found", "conflict", "denied", "unauthenticated", "unavailable"}
BODY_STATUSES = (200, 400, 404, 409, 413, 422)
BROKEN_STATUSES = (200, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 422, 426, 431)
SLOW_S = 2.0
"""The time that the endpoint under test gives a request to arrive."""
QUIET_S = 0.02
GROWTH_MB = 12.0


class Wrong(AssertionError):
    """An answer that is not right, or none where one had to come."""


@dataclass
class Target:
    """The endpoint under test. `good`: the score that the good request got when all was well."""

    host: str
    port: int
    key: str
    pids: Callable[[], dict[str, int]]
    """Its processes by what they do."""
    good: float = 0.0
    slow: deque[tuple[float, Wire]] = field(default_factory=deque)
    """Requests that never end, and when they must have been cut off."""
    steady: Wire | None = None
    grpc: str = ""
    """The address of its gRPC door, empty where it has none."""
    channel: frames.Channel | None = None

    def keyed(self, sent: bytes) -> bytes:
        return sent.replace(b"KEY", self.key.encode())


def request(path: str, body: bytes, *lines: bytes) -> bytes:
    return shapes.head(b"Content-Length: %d" % len(body), b"Content-Type: application/json", *lines, path=path.encode()) + body


# --- what is right ---


def check(answer: Answer, allowed: tuple[int, ...], key: str) -> None:
    """Raises Wrong unless the status is one of these, and the body JSON, in the one shape that errors have."""
    if answer.status not in allowed:
        raise Wrong(f"status {answer.status}, right were {allowed}: {answer.body[:300]!r}")
    if answer.headers.get("content-type") != "application/json":
        raise Wrong(f"the answer is {answer.headers.get('content-type')!r}: {answer.body[:300]!r}")
    if "content-length" not in answer.headers:
        raise Wrong("the answer does not say its length")
    try:
        body = json.loads(answer.body)
    except ValueError as exc:
        raise Wrong(f"the body is not JSON: {answer.body[:300]!r}") from exc
    if answer.status == 200:
        return
    error = body.get("error")
    told = error if isinstance(error, dict) else {**body, "message": error}
    if told.get("code") not in CODES or not isinstance(told.get("message"), str) or not told["message"]:
        raise Wrong(f"the error has another shape: {answer.body[:300]!r}")
    if not isinstance(told.get("retryable"), bool) or len(answer.body) > 4096:
        raise Wrong(f"the error does not say whether to come back, or says too much: {answer.body[:300]!r}")
    if key.encode() in answer.body or b"Traceback" in answer.body:
        raise Wrong(f"the answer tells a secret: {answer.body[:300]!r}")


def check_all(found: list[Answer], wire: Wire, answers: tuple[tuple[int, ...], ...], key: str) -> None:
    for answer, allowed in zip(found, answers, strict=False):
        check(answer, allowed, key)
    if len(found) != len(answers):
        raise Wrong(f"{len(answers)} answers were due, {len(found)} came: {[one.status for one in found]}")
    if wire.garbage:
        raise Wrong(f"what came back is not HTTP: {wire.garbage[:300]!r}")


# --- what is sent ---


def a_body(target: Target, chance: random.Random) -> str:
    path, body = bodies.mutated(chance)
    sent = target.keyed(request(path, body))
    wire = Wire(target.host, target.port)
    try:
        if chance.random() < 0.2:
            at = chance.randrange(len(sent))
            wire.send(sent[:at])
            time.sleep(chance.choice((0, 0, 0.001)))
            wire.send(sent[at:])
        else:
            wire.send(sent)
        found = wire.answers(1)
        check_all(found, wire, (BODY_STATUSES,), target.key)
    finally:
        wire.close()
    return str(found[0].status)


def a_binary(target: Target, chance: random.Random) -> str:
    body, lines = bodies.binary(chance)
    found, wire = exchange(target.host, target.port, [target.keyed(request(bodies.INFER, body, *lines))], 1)
    wire.close()
    if len(found) == 1 and found[0].headers.get("content-type") == "application/octet-stream":
        length = int(found[0].headers["inference-header-content-length"])
        if found[0].status != 200 or not json.loads(found[0].body[:length])["outputs"]:
            raise Wrong(f"bytes came back that are no answer: {found[0].body[:300]!r}")
        return "bytes"
    check_all(found, wire, (BODY_STATUSES,), target.key)
    return str(found[0].status)


def a_shape(target: Target, chance: random.Random) -> str:
    shape = chance.choice(shapes.SHAPES)
    found, wire = exchange(target.host, target.port, [target.keyed(shape.sent)], len(shape.answers))
    try:
        # A server that took the rest for one more request would answer it in this time.
        found = wire.answers(len(shape.answers) + 1, QUIET_S)
        check_all(found, wire, shape.answers, target.key)
    except Wrong as exc:
        raise Wrong(f"{shape.name}: {exc}") from exc
    finally:
        wire.close()
    return "as expected"


def broken(target: Target, chance: random.Random) -> str:
    """Bytes of which nobody knows what they are now; a request that never became whole may be left without an answer."""
    sent = target.keyed(shapes.broken(chance))
    found, wire = exchange(target.host, target.port, [sent], 0)
    # Where the key came to stand in a path or in another header, it may be read in what is said of those.
    kept = f"\r\nAuthorization: Bearer {target.key}\r\n".encode()
    key = target.key if sent.count(kept) == sent.count(target.key.encode()) else "a secret"
    try:
        if not wire.answers(1, QUIET_S):
            wire.end()
        found = wire.answers(1, QUIET_S)
        check_all(found, wire, (BROKEN_STATUSES,) * len(found), key)
    finally:
        wire.close()
    return ",".join(str(one.status) for one in found[:1]) or "closed"


def half(target: Target, chance: random.Random) -> str:
    """A caller that has said all that it wanted, or goes away in the middle."""
    sent = target.keyed(request(bodies.PREDICT, json.dumps(bodies.REQUEST).encode()))
    wire = Wire(target.host, target.port)
    try:
        if chance.random() < 0.4:
            wire.send(sent)
            check_all(wire.end(), wire, ((200,),), target.key)
            return "answered"
        wire.send(sent[: chance.randrange(len(sent))])
        if chance.random() < 0.5:
            wire.reset()
            return "gone"
        found = wire.end()
        check_all(found, wire, ((400, 408),) * len(found), target.key)
    finally:
        wire.close()
    return "half"


def slow(target: Target, chance: random.Random) -> str:
    """A request whose end never comes. It is looked at again when its time is up."""
    sent = target.keyed(request(bodies.PREDICT, json.dumps(bodies.REQUEST).encode()))
    wire = Wire(target.host, target.port)
    wire.send(sent[: chance.randrange(1, len(sent))])
    target.slow.append((time.monotonic() + SLOW_S * 2, wire))
    return "begun"


def crowd(target: Target, chance: random.Random) -> str:
    """Good and bad requests that wait at the same time: nobody's fault is anybody else's."""
    wires: list[tuple[Wire, bool]] = []
    try:
        for _ in range(chance.randrange(2, 9)):
            is_good = chance.random() < 0.5
            path, body = (bodies.INFER, shapes.BODY) if is_good else bodies.mutated(chance)
            wire = Wire(target.host, target.port)
            wires.append((wire, is_good))
            wire.send(target.keyed(request(path, body)))
        for wire, is_good in wires:
            found = wire.answers(1)
            check_all(found, wire, ((200,) if is_good else BODY_STATUSES,), target.key)
            if is_good:
                _check_score(target, found[0])
    finally:
        for wire, _ in wires:
            wire.close()
    return "each its own"


def _channel(target: Target) -> frames.Channel:
    if target.channel is None:
        target.channel = frames.Channel(target.grpc)
    return target.channel


def a_call(target: Target, chance: random.Random) -> str:
    return frames.odd_call(_channel(target), target.key, chance)


def a_frame(target: Target, chance: random.Random) -> str:
    return frames.odd_frames(target.grpc, target.key, chance)


KINDS: tuple[tuple[int, Callable[[Target, random.Random], str]], ...] = (
    (38, a_body),
    (6, a_binary),
    (24, a_shape),
    (22, broken),
    (5, half),
    (1, slow),
    (4, crowd),
)
GRPC_KINDS: tuple[tuple[int, Callable[[Target, random.Random], str]], ...] = ((40, a_call), (15, a_frame))
"""Where the endpoint speaks gRPC too."""


# --- the rounds ---


def _check_score(target: Target, answer: Answer) -> None:
    outputs = {one["name"]: one["data"] for one in json.loads(answer.body)["outputs"]}
    if outputs["probabilities"][1] != target.good:
        raise Wrong(f"a good request got {outputs['probabilities'][1]}, before it got {target.good}")


def check_good(target: Target) -> None:
    """The same score as ever, on a connection that stays open through all that happens beside it."""
    if target.steady is None:
        target.steady = Wire(target.host, target.port)
    target.steady.answers(0)
    before = len(target.steady.answers(0))
    target.steady.send(target.keyed(shapes.WHOLE))
    found = target.steady.answers(before + 1)
    if len(found) != before + 1:
        raise Wrong("a good request on a connection that was good got no answer")
    check(found[-1], (200,), target.key)
    if not target.good:
        target.good = {one["name"]: one["data"] for one in json.loads(found[-1].body)["outputs"]}["probabilities"][1]
    _check_score(target, found[-1])
    found[:-1] = []
    if target.grpc:
        _check_grpc(target)


def _check_grpc(target: Target) -> None:
    for _ in range(100):
        status, answer = _channel(target).call("ModelInfer", frames.good(), [("authorization", f"Bearer {target.key}")])
        if status is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            break
        time.sleep(0.05)  # hundreds of calls of a moment ago still wait; a caller is told to come back
    if status is not grpc.StatusCode.OK:
        raise Wrong(f"a good call over gRPC got {status}: {answer[:300]!r}")
    # Written out as the protocol buffers have it: the score in four bytes, packed or raw.
    if struct.pack("<f", target.good) not in answer:
        raise Wrong(f"a good call over gRPC did not get the score {target.good}")


def check_slow(target: Target, now: float) -> None:
    while target.slow and target.slow[0][0] < now:
        wire = target.slow.popleft()[1]
        found = wire.answers(1)
        wire.close()
        check_all(found, wire, ((408,),), target.key)


def one_round(target: Target, seed: int, number: int, counts: Counter[str]) -> None:
    chance = random.Random(f"{seed}/{number}")
    kinds = (*KINDS, *(GRPC_KINDS if target.grpc else ()))
    kind = chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0]
    try:
        counts[f"{kind.__name__}: {kind(target, chance)}"] += 1
        check_slow(target, time.monotonic())
        if number % 10 == 0:
            check_good(target)
    except (AssertionError, OSError) as exc:
        raise Wrong(f"round {number} of seed {seed} ({kind.__name__}): {exc}") from exc


def run(target: Target, rounds: range, seed: int, tell: Callable[[str], Any] = lambda text: None) -> Counter[str]:
    """Raises Wrong at the first answer that is not right, or where the server did not stay what it was."""
    counts: Counter[str] = Counter()
    check_good(target)
    before = target.pids()
    held: list[float] = []
    for number in rounds:
        one_round(target, seed, number, counts)
        if (number - rounds.start) % max(1, len(rounds) // 20) == 0:
            held.append(_memory(before))
            tell(f"{number - rounds.start:>8} rounds, {held[-1]:.1f} MB, {_open(before)} open files")
    while target.slow:
        time.sleep(0.05)
        check_slow(target, time.monotonic())
    check_good(target)
    if target.pids() != before:
        raise Wrong(f"the processes were {before}, now they are {target.pids()}")
    # A body of a megabyte leaves its mark on one look; a leak leaves it on all that follow.
    if len(held) > 15 and statistics.median(held[-5:]) > statistics.median(held[5:10]) + GROWTH_MB:
        raise Wrong(f"memory grew: {', '.join(f'{one:.0f}' for one in held)} MB")
    return counts


def _memory(pids: dict[str, int]) -> float:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids.values()) / 1e6


def _open(pids: dict[str, int]) -> int:
    return sum(psutil.Process(pid).num_fds() for pid in pids.values())


def _family(place: Installation) -> dict[str, int]:
    """The server and whatever it started, by what each does."""
    first = psutil.Process(place.host.look("delay").pid)
    found = {" ".join(one.cmdline()[-2:]): one.pid for one in first.children(recursive=True)}
    return {"server": first.pid, **found}


@contextmanager
def endpoint(folder: Path) -> Iterator[Target]:
    """A real one, with two arms and little patience."""
    place = Installation(folder, {"clock": "replay", "request_timeout_s": SLOW_S, "max_body_bytes": shapes.LIMIT})
    place.store()
    key = place.key("app", "caller")
    try:
        # Both arms are the same model, so that every good request has one right score.
        place.host.serve(place.wanted(place.arm(1, share=0.5), place.arm(1, "challenger", 0.5)), place.keys)
        parts = urlsplit(place.url)
        told = json.loads((place.folder / "server.json").read_text())
        target = Target(str(parts.hostname), int(parts.port or 0), key, lambda: _family(place), grpc=told.get("grpc_url") or "")
        yield target
        if target.channel:
            target.channel.close()
        for wire in (*([target.steady] if target.steady else []), *(wire for _, wire in target.slow)):
            wire.close()
    finally:
        place.close()


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=2000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--first", type=int, default=0, help="the round to begin with, to see one again")
    given = asked.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, endpoint(Path(folder)) as target:
        try:
            counts = run(target, range(given.first, given.first + given.rounds), given.seed, _tell)
        except Wrong as exc:
            _tell(f"WRONG: {exc}")
            where = str(exc).split()[1] if str(exc).startswith("round") else str(given.first)
            _tell(f"again: python -m tests.fuzz.requests --seed {given.seed} --first {where} --rounds 1")
            return 1
    for what, number in sorted(counts.items()):
        sys.stdout.write(f"{number:>8}  {what}\n")
    sys.stdout.write(f"{counts.total()} rounds in {time.monotonic() - began:.0f} s, every answer as it should be\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
