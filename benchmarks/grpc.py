"""gRPC beside MLServer: one model, the same messages, one core for the server and one for the load, turn and turn about.

Falaj answers with everything on: keys, prediction log, metrics, and a split between two models; MLServer with its defaults. Each
figure is the median of what the rounds gave, each ratio the median of the rounds' ratios. `--ways` measures the ways in which
grpcio can serve from Python instead, each with the same work behind it and no model (docs/decisions/0016).

python -m benchmarks.grpc [--rounds 5] [--seconds 3] [--ways]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.endpoints.cases import COLUMNS, DISTINCT, trained
from benchmarks.endpoints.grpc_ways import WAYS
from benchmarks.endpoints.load import Answers
from benchmarks.endpoints.machine import CORES, LOAD_CORE, SERVER_CORE, cpu_s, pinned
from benchmarks.endpoints.servers import Server, falaj, mlserver, said
from benchmarks.figure import Figure, show
from falaj.inference.grpc.messages import message
from tests.kits.servers import free_port

CASES = {
    # name: (rows of a call, connections, streams on each)
    "1 row, 16 streams": (1, 1, 16),
    "1 row, 16 connections": (1, 16, 1),
    "1 row, 1 stream": (1, 1, 1),
    "64 rows, 16 streams": (64, 1, 16),
}
BUDGET, BUDGETED = 5.0, "1 row, 16 streams"


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=3.0)
    asked.add_argument("--ways", action="store_true")
    given = asked.parse_args()
    if len(CORES) < 2:
        print("Server and load want a core each, and this process may use one.", file=sys.stderr)
        return 2
    print(f"medians of {given.rounds} rounds of {given.seconds:g} s; server and load on a core each")
    return show(ways(given.rounds, given.seconds) if given.ways else figures(given.rounds, given.seconds))


def figures(rounds: int, seconds: float) -> Iterator[Figure]:
    models = trained(1), trained(2)
    sent = {rows: messages(rows) for rows in (1, 64)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
        place = Path(folder)
        ours = held.enter_context(falaj(place / "ours", models, grpc="on"))
        peer = held.enter_context(mlserver(place / "peer", models[0]))
        ports = {"falaj": _port(str(said(ours)["grpc_url"])), "MLServer": _port(peer.grpc)}
        servers: dict[str, Server] = {"falaj": ours, "MLServer": peer}
        for name, (rows, connections, streams) in CASES.items():
            found: dict[str, list[tuple[Answers, float]]] = {one: [] for one in servers}
            for _ in range(rounds):
                for one, server in servers.items():
                    before = cpu_s(server.pid)
                    answers = press((ports[one], server.key), sent[rows], (connections, streams), seconds)
                    found[one].append((answers, (cpu_s(server.pid) - before) / answers.count * 1e6))
            yield from _compared(name, found)


def _compared(name: str, found: dict[str, list[tuple[Answers, float]]]) -> Iterator[Figure]:
    ours, theirs = found["falaj"], found["MLServer"]
    ratio = statistics.median(a.rps / b.rps for (a, _), (b, _) in zip(ours, theirs, strict=True))
    p50, p99 = (statistics.median(getattr(a, at) for a, _ in ours) for at in ("p50", "p99"))
    least = BUDGET if name == BUDGETED else None
    note = f"p50 {p50:.2f} ms, p99 {p99:.2f} ms; MLServer {statistics.median(a.rps for a, _ in theirs):,.0f}/s, "
    note += f"p99 {statistics.median(a.p99 for a, _ in theirs):.1f} ms"
    yield Figure(name, statistics.median(a.rps for a, _ in ours), "/s", "MLServer", ratio, least=least, note=note)
    cpu = statistics.median(us for _, us in ours)
    saved = statistics.median(b / a for (_, a), (_, b) in zip(ours, theirs, strict=True))
    yield Figure(f"{name}: CPU a call", cpu, "µs", "less than MLServer", saved)


def ways(rounds: int, seconds: float) -> Iterator[Figure]:
    """What each way costs, and how many calls it answers, at 16 streams of one connection."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
        ports = {}
        for way in WAYS:
            ports[way] = held.enter_context(_way(way, Path(folder)))
        for way, (port, pid) in ports.items():
            found = []
            for _ in range(rounds):
                before = cpu_s(pid)
                answers = press((port, ""), messages(1), (1, 16), seconds)
                found.append((answers.rps, (cpu_s(pid) - before) / answers.count * 1e6))
            cpu = statistics.median(us for _, us in found)
            yield Figure(way, statistics.median(rps for rps, _ in found), "/s", note=f"{cpu:.0f} µs of CPU a call")


@contextlib.contextmanager
def _way(way: str, folder: Path) -> Iterator[tuple[int, int]]:
    """(port, pid) of a server of that way."""
    port, out = free_port(), folder / f"{len(list(folder.iterdir()))}.txt"
    with out.open("wb") as output, pinned(SERVER_CORE):
        command = [sys.executable, "-m", "benchmarks.endpoints.grpc_ways", way, str(port)]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        while b"ready" not in out.read_bytes():
            if child.poll() is not None:
                raise RuntimeError(f"{way} did not start: {out.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield port, child.pid
    finally:
        child.terminate()
        child.wait()


def messages(rows: int, count: int = DISTINCT) -> list[bytes]:
    """Calls with one raw tensor of so many rows, each of a unit of its own, so that both arms answer."""
    request, chance, made = message("inference.ModelInferRequest"), np.random.default_rng(rows), []
    for number in range(count):
        matrix = chance.normal(size=(rows, COLUMNS)).astype(np.float32)
        tensor = {"name": "input", "datatype": "FP32", "shape": matrix.shape}
        unit = {"unit": {"string_param": f"unit-{number}"}}
        made.append(
            request(
                model_name="delay", parameters=unit, inputs=[tensor], raw_input_contents=[matrix.tobytes()]
            ).SerializeToString()
        )
    return made


def press(server: tuple[int, str], sent: Sequence[bytes], shape: tuple[int, int], seconds: float) -> Answers:
    """Sends the messages in turn from a process of its own on the second core. Raises RuntimeError for any refusal.

    `server`: its port and a key. `shape`: connections, and streams on each.
    """
    with tempfile.NamedTemporaryFile() as file, pinned(LOAD_CORE):
        Path(file.name).write_bytes(b"".join(len(one).to_bytes(4, "big") + one for one in sent))
        command = [sys.executable, "-m", "benchmarks.endpoints.http2", str(server[0]), server[1] or "-", file.name]
        done = subprocess.run([*command, *map(str, shape), str(seconds)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The load generator failed: {done.stderr[-500:]}")
    found = json.loads(done.stdout)
    if found["bad"]:
        raise RuntimeError(f"{found['bad']} of {found['count']} calls were refused.")
    return Answers(found["count"], found["seconds"], found["p50"], found["p99"])


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


if __name__ == "__main__":
    sys.exit(main())
