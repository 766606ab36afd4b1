"""Kills processes that write one ledger, again and again at random moments, and looks whether they lost what was acknowledged.

python -m tests.crash.ledger_kill --rounds 1000

Each round, several processes with several threads each append to one ledger: one to three events a transaction, beside
transactions that raise, and checkpoints. Each event carries a token and counts one record up. A thread says the seq and the
token of its events when the transaction has returned. After a random while each process gets SIGKILL, also while it opens the
ledger or commits. Then the ledger is opened again, and

    every event that was said is there, at its seq, with its token
    no event of a transaction that raised is there
    the seqs have no gap, no token stands twice, and the record counts as many events as there are
    the audit allows the ledger: hashes, root, checkpoints, records

A kill ends a process, not the machine: that what was synchronised outlives a power cut too is for the file system to keep.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.signing import verifier
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.governance.rules import verify

FRESH = 10
"""Rounds on one ledger, which is looked through whole after each of them."""
LONGEST_S = 0.25


@dataclass
class Tally:
    rounds: int = 0
    kills: int = 0
    acknowledged: int = 0
    events: int = 0
    unsaid: int = 0
    """Events that were committed and whose thread was killed before it could say so."""
    faults: list[str] = field(default_factory=list)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="the folder decides which disk is used")
    given = parser.parse_args(argv)
    start = time.monotonic()
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        for _ in range(given.rounds):
            one_round(Path(place), tally, random.Random(given.seed + tally.rounds), given.processes, given.threads)
            if tally.rounds % 50 == 0 or tally.faults:
                sys.stdout.write(f"{_told(tally)}, {time.monotonic() - start:.0f} s\n")
                sys.stdout.flush()
            if tally.faults:
                break
    sys.stdout.write("\n".join(tally.faults[:20]) + "\n" if tally.faults else f"nothing was lost: {_told(tally)}\n")
    return 1 if tally.faults else 0


def _told(tally: Tally) -> str:
    return (
        f"{tally.rounds} rounds, {tally.kills} kills, {tally.acknowledged} events acknowledged and found, "
        f"{tally.unsaid} more that were committed and not said, {len(tally.faults)} faults"
    )


def one_round(place: Path, tally: Tally, chance: random.Random, processes: int, threads: int) -> None:
    """Adds to the tally what one round has shown."""
    folder = place / f"ledger-{tally.rounds // FRESH}"
    folder.mkdir(exist_ok=True)
    name = f"{tally.rounds}"
    writers = [_fork(lambda say, own=own: write(folder, f"{name}.{own}", threads, say)) for own in range(processes)]
    for pid, _ in sorted(writers, key=lambda _: chance.random()):
        time.sleep(chance.uniform(0, LONGEST_S / processes))
        os.kill(pid, signal.SIGKILL)
    said: list[str] = []
    for pid, pipe in writers:
        os.waitpid(pid, 0)
        lines = _drained(pipe).split("\n")
        said += lines[:-1]  # a line without an end was cut off by the kill, and was not said
    _, pipe = looking = _fork(lambda say: say(json.dumps(look(folder, said))))
    answer = _drained(pipe)
    os.waitpid(looking[0], 0)
    found = json.loads(answer) if answer else {"faults": ["the ledger could not be looked at"], "events": 0}
    tally.rounds += 1
    tally.kills += processes
    tally.acknowledged += len(said)
    own = int(found.get("own", 0))
    tally.unsaid += own - len(said)
    tally.events += own
    tally.faults += [f"round {tally.rounds - 1}: {fault}" for fault in found["faults"]]


def write(folder: Path, name: str, threads: int, say: Callable[[str], None]) -> None:
    """Appends until it is killed, and says what was committed."""
    ledger = SqliteLedger(folder / "ledger.db", folder / "key")
    writers = [threading.Thread(target=_append, args=(ledger, f"{name}.{own}", say)) for own in range(threads)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


def _append(ledger: SqliteLedger, name: str, say: Callable[[str], None]) -> None:
    chance = random.Random(name)
    for n in range(1_000_000):
        events = chance.choice((1, 1, 1, 2, 3))
        fails = chance.random() < 0.1
        lines = []
        try:
            with ledger.transaction() as tx:
                for part in range(events):
                    token = f"{name}.{n}.{part}" + (".no" if fails else "")
                    count = int((tx.get("counter", "all") or {"n": 0})["n"]) + 1
                    lines.append(f"{tx.append(_event(token, count)).seq} {token}\n")
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            continue
        say("".join(lines))
        if chance.random() < 0.02:
            ledger.checkpoint()


def _event(token: str, count: int) -> Event:
    changes = (Change("counter", "all", {"n": count}), Change("last", token.rpartition(".")[0], {"token": token}))
    return Event("count.up", Ref("counter", "all"), Actor("writer", "service"), datetime.now(UTC), {"token": token}, changes)


def look(folder: Path, said: list[str]) -> Mapping[str, Any]:
    """What is wrong with the ledger after the kill, and how many of its events are of the last round."""
    ledger = SqliteLedger(folder / "ledger.db", folder / "key")
    with ledger.evidence() as evidence:
        decision = verify(evidence, verifier(ledger.vkey), now=datetime.now(UTC))
    faults = [f"{check.name}: {check.seen}" for check in decision.failed]
    events = list(ledger.events())
    tokens = [str(event.facts["token"]) for event in events]
    if [event.seq for event in events] != list(range(len(events))):
        faults.append("the seqs have a gap")
    if len(set(tokens)) != len(tokens):
        faults.append("a token stands there twice")
    faults += [f"{token} is there, and its transaction raised" for token in tokens if token.endswith(".no")]
    counted = int((ledger.get("counter", "all") or {"n": 0})["n"])
    if counted != len(events):
        faults.append(f"{counted} were counted, {len(events)} are there")
    for line in said:
        seq, token = line.split(" ")
        if not int(seq) < len(tokens) or tokens[int(seq)] != token:
            faults.append(f"event {seq} with the token {token} was acknowledged and is not there")
    of = {token.partition(".")[0] for token in tokens[-1:]} | {line.split(" ")[1].partition(".")[0] for line in said[:1]}
    newest = max(of, key=int, default="")
    ledger.close()
    return {"faults": faults, "own": sum(token.partition(".")[0] == newest for token in tokens) if said else 0}


def _fork(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """A child that does the work and may say lines, and the pipe that they come through. This process has one thread."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    status = 1
    try:
        os.close(reading)
        work(lambda text: (os.write(writing, text.encode()), None)[1])
        status = 0
    finally:
        os._exit(status)


def _drained(pipe: int) -> str:
    with os.fdopen(pipe, "rb") as file:
        return file.read().decode()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
