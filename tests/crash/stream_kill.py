"""Kills a stream worker with SIGKILL at random moments; in the end every message has one prediction and one answer.

    python -m tests.crash.stream_kill --broker nats --rounds 50

`--broker`: file, redis, nats, or kafka (librdkafka's own broker). Each starts a server of its own but `file`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from falaj.adapters import open_adapter
from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.memory.online import MemoryOnline
from falaj.core.errors import FalajError, Unavailable
from falaj.core.message import Message
from falaj.core.moments import millis
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Live, Model, Serving
from falaj.inference.predict import Predictor
from falaj.inference.settings import ServerSettings, settings_from
from falaj.ports.host import Arm, Wanted
from falaj.ports.online import Stored
from falaj.ports.stream import Stream
from falaj.streaming import stream_worker
from tests.kits.endpoint import AT, PLACES, RECIPE, tiny_onnx
from tests.kits.messages import entity, tensor
from tests.kits.servers import kafka_server, nats_server, redis_server

SERVERS = {"redis": redis_server, "nats": nats_server, "kafka": lambda _folder: kafka_server()}
VISIBLE_S = {"file": 0.3, "redis": 3.0, "nats": 3.0, "kafka": 6.0}
"""Longer than a start and some batches: a worker is killed again before what its predecessor had in hand comes to it."""
PATIENCE_S = 120.0


@dataclass
class Found:
    """What the rounds left behind."""

    sent: int
    broken: int
    kills: int
    midway: int
    """Kills that left messages unanswered."""
    logged: int
    answered: int
    letters: int
    twice_logged: int
    twice_answered: int

    @property
    def is_right(self) -> bool:
        good = self.sent - self.broken
        return (self.logged, self.answered, self.letters, self.twice_logged, self.twice_answered) == (
            good,
            good,
            self.broken,
            0,
            0,
        )


def rounds(broker: str, folder: Path, count: int, seed: int, each: int = 300) -> Found:
    chance = random.Random(seed)
    with _server(broker, folder) as url:
        settings = _settings(broker, folder, url)
        source = _stream(settings, settings.stream_source)
        sent, broken, midway = 0, 0, 0
        for _ in range(count):
            messages = [_message(sent + n, chance) for n in range(each)]
            broken += sum(message.value == b"broken" for message in messages)
            sent += each
            source.produce(messages)
            child = _start(folder)
            if broker == "kafka":
                # Its group takes three seconds to form, and what a dead member held comes after its session.
                time.sleep(3.0 + chance.random() * 8.0)
            else:
                _await(source, settings.stream_group, chance.randrange(each + each // 10))
            child.send_signal(signal.SIGKILL)
            child.wait()
            midway += _lag(source, settings.stream_group) > 0
        child = _start(folder)
        _await(source, settings.stream_group, 0)
        child.terminate()
        child.wait(30)
        source.close()
        return _count(settings, folder, (sent, broken, count, midway))


def _await(source: Stream, group: str, left: int) -> None:
    """Until so few messages are to be answered: by the work that is done, not by a clock, however busy the machine is."""
    until = time.monotonic() + PATIENCE_S
    while _lag(source, group) > left and time.monotonic() < until:
        time.sleep(0.001)


def _lag(source: Stream, group: str) -> int:
    """A broker on a busy machine is asked again."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return source.lag(group)
        except Unavailable:
            if time.monotonic() > until:
                raise


def work(folder: Path) -> None:
    """The process that is killed: as an endpoint's worker, without the control plane around it."""
    settings = settings_from(json.loads((folder / "settings.json").read_bytes()))
    online = MemoryOnline()
    online.put("weather_now", {"EWR": Stored(millis(AT), (50.0,))})
    log = PredictionLog(folder / "segments", rows=200)
    predictor = Predictor(log, online, Metrics(), settings.clock, lambda: datetime.now(UTC))
    arm = Arm("champion", "model/delay@1", "sha256:" + "a" * 64, 1.0, "release/delay@1")
    live = Live(arm, Model(tiny_onnx(), RECIPE, PLACES), "1")
    predictor.serving = Serving(Wanted("delay", 1, (arm,), "salt", 0.5, "flight_id"), "delay", (live,))
    with stream_worker(folder, settings, predictor, _tell) as worker:
        signal.signal(signal.SIGTERM, lambda *_: worker.leave())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        worker.run()
    log.close()


def _tell(error: FalajError) -> None:
    sys.stderr.write(f"{error}\n")


@contextlib.contextmanager
def _server(broker: str, folder: Path) -> Iterator[str]:
    if broker == "file":
        yield ""
        return
    (folder / "server").mkdir()
    with SERVERS[broker](folder / "server") as url:
        yield url


def _settings(broker: str, folder: Path, url: str) -> ServerSettings:
    name = secrets.token_hex(4)
    settings = ServerSettings(
        "delay", "", "", "", "", clock="replay", stream_scheme=broker, stream_url=url, stream_folder=str(folder / "streams"),
        stream_source=f"requests-{name}", stream_sink=f"answers-{name}", stream_dead=f"dead-{name}", stream_group="falaj",
        stream_batch=4, stream_visible_s=VISIBLE_S[broker],
    )  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(asdict(settings)))
    return settings


def _stream(settings: ServerSettings, name: str) -> Stream:
    place: dict[str, Any] = (
        {"folder": Path(settings.stream_folder)} if settings.stream_scheme == "file" else {"url": settings.stream_url}
    )
    stream: Stream = open_adapter("stream", settings.stream_scheme, name=name, visible_s=settings.stream_visible_s, **place)
    return stream


def _start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "tests.crash.stream_kill", "--worker", str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.stdout.close()
    return child


def _message(number: int, chance: random.Random) -> Message:
    bodies = (entity(f"f{number}"), tensor([number % 100, 2, None, 4]), b"broken")
    body = chance.choices(bodies, (10, 5, 1))[0]
    return Message(body, f"k{number % 7}", {"n": str(number)}, chance.choice(("", f"m{number}")))


def _count(settings: ServerSettings, folder: Path, done: tuple[int, int, int, int]) -> Found:
    logged = [
        str(record["request_id"])
        for _, record in SegmentPredictions(folder / "segments").follow()
        if record["kind"] == "prediction"
    ]
    answers, letters = _stream(settings, settings.stream_sink), _stream(settings, settings.stream_dead)
    with contextlib.closing(answers), contextlib.closing(letters):
        numbers = [one.message.headers["n"] for one in answers.replay()]
        dead = {one.message.headers["n"] for one in letters.replay()} if done[1] else set()
    return Found(*done, len(set(logged)), len(set(numbers)), len(dead), _twice(logged), _twice(numbers))


def _twice(names: list[str]) -> int:
    return sum(count - 1 for count in Counter(names).values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("file", *SERVERS), default="file")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = rounds(given.broker, Path(folder), given.rounds, given.seed)
    sys.stdout.write(f"{given.broker}: {found}: {'right' if found.is_right else 'WRONG'}\n")
    return 0 if found.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
