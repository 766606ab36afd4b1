"""Serving beside MLServer: one model, the same requests, one core for the server and one for the load, turn and turn about.

Falaj answers with everything on: keys, prediction log, metrics, and a split between two models; MLServer with its defaults. Once
more, both cores are everybody's: falaj with a worker for each, MLServer, and the load. The floor is a server that does nothing
but parse, run the models and send the scores.
Each figure is the median of the rounds, each ratio the median of the rounds' ratios. One machine's figures: trust the ratios.

python -m benchmarks.serving [--rounds 5] [--seconds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.endpoints.cases import DISTINCT, alone_us, bodies, trained
from benchmarks.endpoints.load import Answers, client, press
from benchmarks.endpoints.machine import CORES, cpu_s, resident_mb
from benchmarks.endpoints.servers import Server, falaj, floor, mlserver, settle
from benchmarks.figure import Figure, show

CASES = {
    # name: (rows of a request, connections, different requests)
    "1 row, 16 connections": (1, 16, DISTINCT),
    "1 row, 1 connection": (1, 1, DISTINCT),
    "64 rows, 16 connections": (64, 16, DISTINCT),
    "the same 64 rows, 16 connections": (64, 16, 1),
}
"""One body again and again is how servers are often measured, and flatters the model: see endpoints.cases.alone_us."""
STARTS = 5
SINGLE, ALONE, BATCH, SAME = CASES
PEER, PARSED = "MLServer", "MLServer with httptools"
"""As pip installs it, uvicorn under it parses in Python; the second has the parser in C that nothing asks for."""
OURS, UNLOGGED, DURABLE = "falaj", "falaj without its log", "falaj, answers after fsync"
FLOOR = "the floor"
TWO = "1 row, 16 connections, all share both cores"


@dataclass
class Seen:
    """What the rounds gave for one server and case."""

    rps: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def add(self, found: Answers, cpu: float) -> None:
        self.rps.append(found.rps)
        self.p50.append(found.p50)
        self.p99.append(found.p99)
        self.cpu_us.append(cpu / found.count * 1e6)


Table = dict[tuple[str, str], Seen]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=int, default=3)
    given = asked.parse_args()
    if len(CORES) < 2:
        print("Server and load want a core each, and this process may use one.", file=sys.stderr)
        return 2
    print(f"load from {client()}; medians of {given.rounds} rounds of {given.seconds} s; server and load on a core each")
    return show(figures(given.rounds, given.seconds))


def figures(rounds: int, seconds: int) -> Iterator[Figure]:
    models = trained(1), trained(2)
    alone = {case: alone_us(models[0], rows, distinct) for case, (rows, _, distinct) in CASES.items()}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
        place = Path(folder)
        servers = {
            OURS: held.enter_context(falaj(place / "ours", models)),
            PEER: held.enter_context(mlserver(place / "peer", models[0])),
            PARSED: held.enter_context(mlserver(place / "parsed", models[0], "mlserver_httptools")),
            UNLOGGED: held.enter_context(falaj(place / "unlogged", models, program=("benchmarks.endpoints.unlogged",))),
            DURABLE: held.enter_context(falaj(place / "durable", models, sync="always")),
            FLOOR: held.enter_context(floor(place / "floor", models)),
        }
        for name, server in servers.items():  # the first requests fill caches
            press(server.infer, server.key, bodies(1), connections=16, seconds=1)
            print(f"  ({name} is ready after {server.ready_s:.2f} s)", file=sys.stderr, flush=True)
        table = _rounds(servers, rounds, seconds)
        memory = {name: resident_mb(server.pid) for name, server in servers.items()}
        starts = [servers[OURS].ready_s, servers[DURABLE].ready_s, servers[PEER].ready_s]
        held.close()
        _both_cores(table, place / "two", models, rounds, seconds)
        starts[:2] = [statistics.median([*starts[:2], *_starts(place / "again", models)])]
    yield from _against(table)
    yield from _processor(table, alone)
    yield from _log(table)
    yield Figure("ready after its start", starts[0] * 1000, "ms", f"less than {PEER}", starts[-1] / starts[0], 1000)
    peer = max(memory[PEER].values())
    for name, mb in memory[OURS].items():
        yield Figure(f"resident after all that, {name}", mb, "MB", f"less than {PEER}", peer / mb, 120)


def _both_cores(table: Table, folder: Path, models: tuple[bytes, ...], rounds: int, seconds: int) -> None:
    with contextlib.ExitStack() as held:
        servers = {
            OURS: held.enter_context(falaj(folder / "ours", models, cores=CORES, workers=len(CORES))),
            PEER: held.enter_context(mlserver(folder / "peer", models[0], cores=CORES)),
        }
        for turn in range(rounds + 1):  # the first fills caches
            for name, server in servers.items():
                kept = table if turn else {}
                _measure(kept, (name, TWO), server, bodies(1), connections=16, seconds=seconds, cores=CORES)


_LESS = {UNLOGGED: (ALONE, SAME, BATCH), PARSED: (ALONE, SAME), DURABLE: (BATCH, SAME), FLOOR: (SAME,)}
"""What is not measured of whom."""


def _rounds(servers: dict[str, Server], rounds: int, seconds: int) -> Table:
    table: Table = {}
    for turn in range(rounds):
        for case, (rows, connections, distinct) in CASES.items():
            texts = bodies(rows, distinct)
            # The order turns, so that nobody always runs on the heels of the same neighbour.
            names = list(servers)[turn % len(servers) :] + list(servers)[: turn % len(servers)]
            for name in names:
                if case in _LESS.get(name, ()):
                    continue
                _measure(table, (name, case), servers[name], texts, connections=connections, seconds=seconds)
        _measure(table, (DURABLE, "64"), servers[DURABLE], bodies(1), connections=64, seconds=seconds)
    return table


def _measure(table: Table, key: tuple[str, str], server: Server, texts: list[bytes], **spell: Any) -> None:
    before = cpu_s(server.pid)
    found = press(server.infer, server.key, texts, **spell)
    settle(server)  # sealing the log comes after the requests
    table.setdefault(key, Seen()).add(found, cpu_s(server.pid) - before)


def _starts(folder: Path, models: tuple[bytes, ...]) -> Iterator[float]:
    for number in range(STARTS - 2):
        with falaj(folder / str(number), models) as server:
            yield server.ready_s


def _against(table: Table) -> Iterator[Figure]:
    """Throughput and waiting time beside both ways to install the peer; the budgets hold for the one that pip gives."""
    for case, least in ((SINGLE, 20.0), (TWO, 20.0), (ALONE, 5.0), (BATCH, 3.0), (SAME, 3.0)):
        ours, peer = table[OURS, case], table[PEER, case]
        note = f"{PEER} {statistics.median(peer.rps):,.0f}/s"
        yield Figure(f"{case}", statistics.median(ours.rps), "req/s", PEER, _ratio(ours.rps, peer.rps), least=least, note=note)
        if (PARSED, case) in table:
            other = table[PARSED, case]
            yield Figure(
                f"{case}",
                statistics.median(ours.rps),
                "req/s",
                PARSED,
                _ratio(ours.rps, other.rps),
                note=f"{statistics.median(other.rps):,.0f}/s",
            )
        if (FLOOR, case) in table:
            least_of_all = table[FLOOR, case]
            note = f"{statistics.median(least_of_all.rps):,.0f}/s, {_ratio(least_of_all.rps, peer.rps):.1f} × {PEER}"
            yield Figure(f"{case}", statistics.median(ours.rps), "req/s", FLOOR, _ratio(ours.rps, least_of_all.rps), note=note)
        limit = 5.0 if case in (SINGLE, TWO) else None
        note = f"{PEER} {statistics.median(peer.p99):.2f} ms"
        yield Figure(
            f"{case}, p99",
            statistics.median(ours.p99),
            "ms",
            f"less than {PEER}",
            _ratio(peer.p99, ours.p99),
            least=limit,
            note=note,
        )
        note = f"{PEER} {statistics.median(peer.p50):.2f} ms"
        yield Figure(
            f"{case}, p50", statistics.median(ours.p50), "ms", f"less than {PEER}", _ratio(peer.p50, ours.p50), note=note
        )


def _processor(table: Table, alone: dict[str, float]) -> Iterator[Figure]:
    """Where the budget says `at most 5 × session.run`, what counts is the microseconds, so it is given as a budget in them."""
    for case in (SINGLE, BATCH, SAME):
        used = statistics.median(table[OURS, case].cpu_us)
        note = f"session.run alone {alone[case]:.1f} µs, {alone[case] / used:.0%} of it; {PEER} {_cpu(table, case):,.0f} µs"
        budget = 5 * alone[case] if case == SINGLE else None
        yield Figure(f"{case}, CPU a request", used, "µs", "session.run", used / alone[case], budget, note)
    used = statistics.median(table[OURS, BATCH].cpu_us)
    for factor in (1.7, 4.0):
        gain = used / (used - alone[BATCH] * (1 - 1 / factor))
        yield Figure(f"64 rows, were the trees {factor} times as fast", gain, "×", note="computed from the share of session.run")


def _cpu(table: Table, case: str) -> float:
    return statistics.median(table[PEER, case].cpu_us)


def _log(table: Table) -> Iterator[Figure]:
    ours, bare = table[OURS, SINGLE], table[UNLOGGED, SINGLE]
    cost = 100 * (1 - _ratio(ours.rps, bare.rps))
    note = "a server of the benchmark alone, which throws every record away"
    yield Figure("prediction log, share of throughput", cost, "%", budget=10, note=note)
    for case, connections in ((ALONE, 1), (SINGLE, 16), ("64", 64)):
        seen = table[DURABLE, case]
        note = f"p50 {statistics.median(seen.p50):.2f} ms, p99 {statistics.median(seen.p99):.2f} ms"
        yield Figure(f"answers after fsync, {connections} connections", statistics.median(seen.rps), "req/s", note=note)


def _ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
