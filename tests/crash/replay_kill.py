"""Kills the control plane and the inference server with -9 while flights are replayed, and counts what was acknowledged.

python -m tests.crash.replay_kill --rounds 50
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from examples.flights import demo
from examples.flights.replay import Airline, Client, steps
from falaj.adapters.local.predictions import SegmentPredictions
from falaj.app import open_app


@dataclass
class Seen:
    """What the callers were told, and what was found afterwards."""

    kills: dict[str, int] = field(default_factory=lambda: {"control plane": 0, "inference server": 0})
    acknowledged: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    ledger: str = ""


def play(rounds: int, folder: Path, seed: int = 1) -> Seen:
    """Replays from May on until both processes were killed `rounds` times in all."""
    seen, chance = Seen(), random.Random(seed)
    given = demo.arguments(["--folder", str(folder), "--seed", str(seed), "--sample", "0.3", "--plain"])
    settings = {"state": str(folder / "state"), "api_port": "0", "serve_port": "0", "mirror": "none"}
    falaj = demo.Falaj(folder, settings)
    over = threading.Event()
    try:
        operator, colleague, caller = demo.set_up(falaj, given)
        airline = Airline(demo.ENDPOINT, caller)
        killer = threading.Thread(target=_kill, args=(falaj, rounds, chance, (seen, over)))
        killer.start()
        keys = _replay(given, operator, airline, over)
        killer.join()
        airline.close()
        operator.close()
        colleague.close()
    finally:
        over.set()
        falaj.down()
        falaj.stop_serving()
    _compare(seen, airline, keys, folder)
    return seen


def _kill(falaj: demo.Falaj, rounds: int, chance: random.Random, told: tuple[Seen, threading.Event]) -> None:
    seen, over = told
    server = falaj.folder / "state" / "serving" / demo.ENDPOINT / "server.json"
    while sum(seen.kills.values()) < rounds and not over.is_set():
        time.sleep(chance.uniform(0.2, 2.0))
        if chance.random() < 0.5 and falaj.process is not None:
            falaj.process.kill()
            falaj.process.wait()
            seen.kills["control plane"] += 1
            falaj.up()
            time.sleep(chance.uniform(0.5, 4.0))
        else:
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.kill(chance.choice(demo.processes(server)), signal.SIGKILL)
                seen.kills["inference server"] += 1
    over.set()


def _replay(given: argparse.Namespace, operator: Client, airline: Airline, over: threading.Event) -> list[str]:
    """Goes on until it is over. Returns the names of the keys whose making was acknowledged: an event each."""
    keys: list[str] = []
    for number, (now, leave, arrive) in enumerate(steps(demo.sampled(given), demo.START, given.until, demo.EVERY)):
        if over.is_set():
            break
        operator.call("POST", "/v1/worker:tick", {"now": now.isoformat()})
        operator.call("POST", f"/v1/keys/probe-{number}:create", {"roles": ["caller"], "kind": "service"})
        keys.append(f"probe-{number}")
        airline.depart(leave)
        airline.land(arrive)
    return keys


def _compare(seen: Seen, airline: Airline, keys: list[str], folder: Path) -> None:
    found: dict[str, set[str]] = {"prediction": set(), "label": set(), "failure": set()}
    for _, record in SegmentPredictions(folder / "state" / "serving" / demo.ENDPOINT / "segments").follow():
        found[record["kind"]].add(str(record.get("id")))
    with open_app(demo.HERE, {"state": str(folder / "state")}) as app:
        made = {str(key["name"]) for key in app.keys.listing()}
        seen.ledger = app.audit.verify().verdict
    told = {"prediction": set(airline.tally.predictions), "label": set(airline.tally.labels), "key": set(keys)}
    for kind, known in told.items():
        seen.acknowledged[kind] = len(known)
        seen.lost[kind] = len(known - (made if kind == "key" else found[kind]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(datetime.now(UTC).timestamp()))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="falaj-kill-"))
    try:
        seen = play(given.rounds, folder, given.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"killed {seen.kills}; acknowledged {seen.acknowledged}; lost {seen.lost}; the ledger: {seen.ledger}")  # noqa: T201


if __name__ == "__main__":
    main()
