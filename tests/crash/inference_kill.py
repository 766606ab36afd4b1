"""Kills workers and supervisors of an endpoint under load, and counts what was acknowledged and is not in the log.

By hand: python -m tests.crash.inference_kill --rounds 200
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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.segment import seal
from tests.kits.endpoint import REQUEST, Installation

THREADS = 4
VICTIMS = ("worker", "worker", "worker", "supervisor", "supervisor", "everything", "stopped")
"""`stopped`: a worker that gets SIGSTOP, perhaps while it holds the log; the supervisor has to notice and end it."""
HANG_S = 3.0


@dataclass
class Told:
    """What one caller was told."""

    predictions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Answers other than 200, and wrong ones: a killed server says nothing, it must not say something wrong."""
    scores: set[float] = field(default_factory=set)
    refused: int = 0
    """Answers by 503 and 429 that say when to come back, where they are allowed."""
    answered: float = 0.0
    """When the last prediction was acknowledged, seconds of the steady clock."""


@dataclass(frozen=True)
class Outcome:
    kills: Counter[str]
    predictions: int
    labels: int
    lost: list[str]
    errors: list[str]
    bad_seals: list[int]
    twice: list[str]
    """Ids that were given out more than once."""
    failed: Counter[str]
    """Requests without an answer, by what was killed meanwhile. `worker refused`: nobody listened, though others lived."""
    slowest_s: dict[str, float]
    """Until everything was back, by what was killed."""

    @property
    def is_good(self) -> bool:
        """Only callers of a worker that was killed may go without an answer, and never for want of anybody who listens."""
        wrong = set(self.failed) - {"worker", "stopped", "everything", "everything refused"}
        return not (self.lost or self.errors or self.bad_seals or self.twice or wrong)

    def __str__(self) -> str:
        kills = ", ".join(f"{times} of {what}" for what, times in sorted(self.kills.items()))
        failed = ", ".join(f"{times} by {what}" for what, times in sorted(self.failed.items())) or "none"
        slow = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in sorted(self.slowest_s.items()))
        return (
            f"kills: {kills}\nacknowledged: {self.predictions} predictions and {self.labels} labels, {len(self.lost)} lost, "
            f"{len(self.twice)} ids twice, {len(self.errors)} wrong answers, {len(self.bad_seals)} seals that do not fit\n"
            f"requests without an answer: {failed}\nlongest until all was back: {slow}"
        )


class Load:
    """Callers that predict and send labels until they are told to stop."""

    def __init__(self, place: Installation, key: str, *, may_refuse: bool = False) -> None:
        self.place, self.key, self.may_refuse = place, key, may_refuse
        self.told = [Told() for _ in range(THREADS)]
        self.meanwhile = "nothing"
        """What is being killed."""
        self.failed: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number, one)) for number, one in enumerate(self.told)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self, caller: int, told: Told) -> None:
        number = 0
        while not self._over.is_set():
            try:
                with self.place.client(self.key) as client:
                    while not self._over.is_set():
                        number += 1
                        self._ask(client, f"f-{caller}-{number}", number, told)
            except httpx.ConnectError:
                self.failed[f"{self.meanwhile} refused"] += 1
                time.sleep(0.02)
            except (httpx.TransportError, OSError):
                self.failed[self.meanwhile] += 1

    def _ask(self, client: httpx.Client, unit: str, number: int, told: Told) -> None:
        answer = client.post("/v1/models/delay:predict", json={**REQUEST, "flight_id": unit})
        if answer.status_code != 200:
            self._refused(answer, told)
            return
        told.answered = time.monotonic()
        issued = answer.json()["id"]
        told.predictions.append(issued)
        told.scores.add(answer.json()["score"])
        if number % 3 == 0:
            label = {"id": issued, "label": number % 2, "at": "2013-05-01T12:00:00Z"}
            taken = client.post("/v1/feedback", json={"labels": [label]})
            if taken.status_code == 200:
                told.labels.append(issued)
            else:
                self._refused(taken, told)

    def _refused(self, answer: httpx.Response, told: Told) -> None:
        if self.may_refuse and answer.status_code in (429, 503) and answer.headers.get("retry-after") == "1":
            told.refused += 1
            time.sleep(0.01)
        else:
            told.errors.append(answer.text)

    @property
    def predictions(self) -> int:
        return sum(len(one.predictions) for one in self.told)

    @property
    def refused(self) -> int:
        return sum(one.refused for one in self.told)


def kill_and_count(folder: Path, rounds: int, *, seed: int = 1, rows: int = 400, workers: int = 2) -> Outcome:
    """`rounds` kills at random moments while clients predict and send labels; `rows` small, so that kills also meet sealing.

    One thing is killed at a time: a worker, the supervisor, or everything at once.
    """
    place = Installation(folder, {"clock": "replay", "segment_rows": rows, "workers": workers, "hang_s": HANG_S})
    place.store()
    key = place.key("app", "caller")
    chance, kills, slowest = random.Random(seed), Counter[str](), dict[str, float]()
    try:
        place.host.serve(place.wanted(), place.keys)
        with Load(place, key) as load:
            # Each kind at least once, however few rounds there are.
            first = chance.sample(sorted(set(VICTIMS)), len(set(VICTIMS)))
            for what in (first + chance.choices(VICTIMS, k=rounds))[:rounds]:
                time.sleep(chance.uniform(0.1, 0.6))
                load.meanwhile = what
                seconds = _kill(place, what, chance)
                kills[what] += 1
                slowest[what] = max(slowest.get(what, 0.0), seconds)
                time.sleep(0.05)  # whoever was cut off knows it by now
                load.meanwhile = "nothing"
            time.sleep(0.3)
    finally:
        place.close()
    return count(place, load, kills, slowest)


def _kill(place: Installation, what: str, chance: random.Random) -> float:
    """kill -9; returns the seconds until everything that is wanted is there again."""
    supervisor, workers = place.host.look("delay").pid, sorted(place.workers().values())
    one = [chance.choice(workers)]
    victims = {"worker": one, "stopped": one, "supervisor": [supervisor], "everything": [supervisor, *workers]}[what]
    started = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGSTOP if what == "stopped" else signal.SIGKILL)
    while not _is_back(place, victims):
        if time.monotonic() - started > 30:
            raise AssertionError(f"the endpoint did not come back: {(place.folder / 'server.log').read_text()[-2000:]}")
        place.host.supervise()
        time.sleep(0.02)
    return time.monotonic() - started


def _is_back(place: Installation, victims: list[int]) -> bool:
    seen = place.host.look("delay")
    if seen.pid in (0, *victims) or not seen.ready:
        return False
    told = json.loads((place.folder / "server.json").read_text())
    return bool(
        told["pid"] == seen.pid and told["settings"] and not {about["pid"] for about in told["workers"].values()} & set(victims)
    )


def count(place: Installation, load: Load, kills: Counter[str], slowest: dict[str, float]) -> Outcome:
    """Holds what was acknowledged against the log. For when nobody writes any more."""
    log = SegmentPredictions(place.folder / "segments")
    kinds: dict[str, Counter[str]] = {"prediction": Counter(), "label": Counter(), "failure": Counter()}
    for cursor, record in log.follow():
        kinds[record["kind"]][record.get("id", "")] += 1
        if record["kind"] == "prediction":
            assert record["id"].startswith(f"p{cursor.segment:x}-{cursor.row - 1:x}-"), "an id does not say where its line is"
    told = load.told
    predictions, labels = [i for one in told for i in one.predictions], [i for one in told for i in one.labels]
    lost = [issued for issued in predictions if issued not in kinds["prediction"]]
    lost += [issued for issued in labels if issued not in kinds["label"]]
    twice = [issued for issued, times in (kinds["prediction"] + Counter()).items() if times > 1]
    twice += [issued for issued, times in Counter(predictions).items() if times > 1]
    errors = [error for one in told for error in one.errors]
    if len(scores := {score for one in told for score in one.scores}) > 1:
        errors.append(f"one question had several answers: {scores}")
    bad = [number for number, fits in _seals(log) if not fits]
    return Outcome(kills, len(predictions), len(labels), lost, errors, bad, twice, load.failed, slowest)


def _seals(log: Any) -> Iterator[tuple[int, bool]]:
    for found in log.seals():
        data = b"".join(line + b"\n" for line in log.lines(found.segment))
        yield found.segment, found == seal("delay", found.segment, data, found.first_at, found.last_at)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_count(Path(folder), given.rounds, seed=given.seed, workers=given.workers)
    print(found)  # noqa: T201
    for text in (*found.lost[:5], *found.twice[:5], *found.errors[:5]):
        print(" ", text)  # noqa: T201
    return 0 if found.is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
