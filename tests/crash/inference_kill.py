"""Kills an inference server again and again under load, and counts what was acknowledged and is not in the log.

By hand: python -m tests.crash.inference_kill --rounds 50
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.segment import seal
from tests.kits.endpoint import REQUEST, Installation

THREADS = 4


@dataclass
class Told:
    """What the server acknowledged."""

    predictions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Answers other than 200: a killed server says nothing, it must not say something wrong."""


@dataclass(frozen=True)
class Outcome:
    kills: int
    predictions: int
    labels: int
    lost: list[str]
    errors: list[str]
    bad_seals: list[int]

    def __str__(self) -> str:
        return f"{self.kills} kills, {self.predictions} predictions and {self.labels} labels acknowledged, {len(self.lost)} lost"


def kill_and_count(folder: Path, rounds: int, *, seed: int = 1, rows: int = 400) -> Outcome:
    """`rounds` kills at random moments while clients predict and send labels; `rows` small, so that kills also meet sealing."""
    place = Installation(folder, {"clock": "replay", "segment_rows": rows})
    place.store()
    key = place.key("app", "caller")
    chance, told, over = random.Random(seed), [Told() for _ in range(THREADS)], threading.Event()
    try:
        place.host.serve(place.wanted(), place.keys)
        threads = [threading.Thread(target=_call, args=(place, key, one, over)) for one in told]
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            time.sleep(chance.uniform(0.1, 0.6))
            _kill(place)
        time.sleep(0.3)
        over.set()
        for thread in threads:
            thread.join()
    finally:
        over.set()
        place.close()
    return _count(place, told, rounds)


def _call(place: Installation, key: str, told: Told, over: threading.Event) -> None:
    number = 0
    while not over.is_set():
        try:
            with place.client(key) as client:
                while not over.is_set():
                    number += 1
                    answer = client.post("/v1/models/delay:predict", json={**REQUEST, "flight_id": f"f-{number}"})
                    if answer.status_code != 200:
                        told.errors.append(answer.text)
                        continue
                    issued = answer.json()["id"]
                    told.predictions.append(issued)
                    if number % 3 == 0:
                        label = {"id": issued, "label": number % 2, "at": "2013-05-01T12:00:00Z"}
                        taken = client.post("/v1/feedback", json={"labels": [label]})
                        (told.labels if taken.status_code == 200 else told.errors).append(
                            issued if taken.status_code == 200 else taken.text
                        )
        except (httpx.TransportError, OSError, json.JSONDecodeError):
            time.sleep(0.02)


def _kill(place: Installation) -> None:
    before = place.host.look("delay").pid
    os.kill(before, signal.SIGKILL)
    until = time.monotonic() + 20
    while (seen := place.host.look("delay")).pid in (0, before) or not seen.ready:
        if time.monotonic() > until:
            raise AssertionError("the server did not come back")
        place.host.supervise()
        time.sleep(0.02)


def _count(place: Installation, told: list[Told], kills: int) -> Outcome:
    stream = SegmentPredictions(place.folder / "segments")
    predictions: set[str] = set()
    labels: set[str] = set()
    for cursor, record in stream.follow():
        (predictions if record["kind"] == "prediction" else labels).add(record["id"])
        if record["kind"] == "prediction":
            assert record["id"].startswith(f"p{cursor.segment:x}-{cursor.row - 1:x}-"), "an id does not say where its line is"
    lost = [issued for one in told for issued in one.predictions if issued not in predictions]
    lost += [issued for one in told for issued in one.labels if issued not in labels]
    seals = stream.seals()
    bad = [
        found.segment
        for found in seals
        if found
        != seal(
            "delay", found.segment, b"".join(line + b"\n" for line in stream.lines(found.segment)), found.first_at, found.last_at
        )
    ]
    return Outcome(
        kills,
        sum(len(one.predictions) for one in told),
        sum(len(one.labels) for one in told),
        lost,
        [e for one in told for e in one.errors],
        bad,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_count(Path(folder), given.rounds, seed=given.seed)
    print(found)  # noqa: T201
    for text in (*found.lost[:5], *found.errors[:5], *(f"segment {number}: seal does not fit" for number in found.bad_seals)):
        print(" ", text)  # noqa: T201
    return 1 if found.lost or found.errors or found.bad_seals else 0


if __name__ == "__main__":
    raise SystemExit(main())
