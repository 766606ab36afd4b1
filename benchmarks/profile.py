"""Where the processor time of a request goes: samples of a server under load, sorted into parts that add up.

Only where the server is busy all the time, on a quiet machine, is it processor time alone: what it waits stands under `event
loop`, and how busy it was is said.

python -m benchmarks.profile [--rows 1] [--connections 16] [--seconds 8] [--functions 25]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import threading
from collections import Counter
from pathlib import Path

import psutil

from benchmarks.endpoints.cases import alone_us, bodies, trained
from benchmarks.endpoints.load import press
from benchmarks.endpoints.machine import answering, cpu_s
from benchmarks.endpoints.servers import Server, falaj
from benchmarks.peers import python_of

PARTS = (
    # part, what a frame `function (file:line)` must match; from the innermost frame outwards, the first match decides
    ("model", r"^(Session\.run|InferenceSession\.run|Model\.\w+) "),
    ("authentication", r"inference/(auth|tokens|doors)\w*\.py"),
    ("split", r"inference/router\.py"),
    ("metrics", r"inference/(metrics|counts)\w*\.py"),
    ("log", r"(inference/(log|record)\w*\.py|core/segment\.py|adapters/local/predictions\.py|\.(_write|_log|_record)\w* )"),
    ("decode", r"(read_\w+|_matrix|_flat|_asked|unit_of|text_of|decode\w*) \(falaj/inference/"),
    ("encode", r"(write_\w+|encode\w*|_json|check_outputs) \(falaj/inference/"),
    ("HTTP: parse, route, write", r"(inference/(http|heads|server|doors)\w*\.py|uvicorn/|httptools/)"),
    ("gather and hand over", r"inference/(batch|predict|calls|singles)\w*\.py"),
    ("watch and housekeeping", r"(inference/watch\.py|falaj/serve\.py.*keep|psutil/)"),
    ("event loop", r"(Runner\.run|asyncio/|uvloop/|serve \(falaj/serve\.py|main \(falaj/serve\.py)"),
)
_WAITS = (
    r"_worker \(concurrent/futures/thread\.py", r"wait \(threading\.py", r"Queue\.get", r"SimpleQueue", r"Selector\.select ",
    r"Port\.poll ", r"<locals>\.wait ",
)  # fmt: skip
IDLE = re.compile(f"({'|'.join(_WAITS)})[^;]*$")
"""Threads that wait; the sampler takes them for running."""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=1)
    asked.add_argument("--connections", type=int, default=16)
    asked.add_argument("--seconds", type=int, default=8)
    asked.add_argument("--functions", type=int, default=25)
    given = asked.parse_args()
    models = trained(1), trained(2)
    with tempfile.TemporaryDirectory() as folder, falaj(Path(folder) / "server", models) as server:
        texts = bodies(given.rows)
        press(server.infer, server.key, texts, connections=given.connections, seconds=1)
        worker = answering(server.pid)
        before, own = cpu_s(server.pid), _cpu_s(worker)
        found = press(server.infer, server.key, texts, connections=given.connections, seconds=4)
        spent = _cpu_s(worker) - own
        others = cpu_s(server.pid) - before - spent
        stacks = _sampled(server, worker.pid, texts, given)
    alone = alone_us(models[0], given.rows)
    print(f"{found.rps:,.0f} requests/s, the server busy {spent / found.seconds:.0%} of the time")
    _show(stacks, spent / found.count * 1e6, given.functions)
    print(f"{'the other processes of the endpoint':<44} {others / found.count * 1e6:>8.1f} µs")
    print(f"{'session.run alone, one request at a time':<44} {alone:>8.1f} µs")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _sampled(server: Server, pid: int, texts: list[bytes], given: argparse.Namespace) -> Counter[str]:
    """Stacks of one process, joined by `;`, with the number of times that they were met."""
    spy = python_of("pyspy").parent / "py-spy"
    spell = {"connections": given.connections, "seconds": given.seconds + 2}
    load = threading.Thread(target=press, args=(server.infer, server.key, texts), kwargs=spell)
    load.start()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks"
        command = [str(spy), "record", "--pid", str(pid), "--format", "raw", "--function"]
        command += ["--rate", "300", "--duration", str(given.seconds), "--output", str(raw)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        load.join()
        if done.returncode:
            raise RuntimeError(f"py-spy failed, it wants to be root or ptrace_scope 0: {done.stderr[-500:]}")
        stacks: Counter[str] = Counter()
        for line in raw.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            if not IDLE.search(stack):
                stacks[stack] += int(count)
    return stacks


def part_of(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        for part, pattern in PARTS:
            if re.search(pattern, frame):
                return part
    return "other"


def _show(stacks: Counter[str], used: float, functions: int) -> None:
    total = sum(stacks.values())
    print(f"{used:.1f} µs of processor time a request, {total} samples")
    parts: Counter[str] = Counter()
    leaves: Counter[str] = Counter()
    for stack, count in stacks.items():
        parts[part_of(stack)] += count
        leaves[re.sub(r":\d+\)$", ")", stack.split(";")[-1])] += count
    for part, count in parts.most_common():
        print(f"{part:<44} {count / total * used:>8.1f} µs {count / total:>6.1%}")
    print(f"{'sum':<44} {used:>8.1f} µs {1:>6.1%}")
    print("\nthe functions themselves, with what they call in C:")
    for leaf, count in leaves.most_common(functions):
        print(f"  {leaf:<78} {count / total * used:>8.1f} µs {count / total:>6.1%}")


if __name__ == "__main__":
    main()
