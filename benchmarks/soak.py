"""An endpoint for minutes under mixed traffic, at seven tenths of what it can take: is its memory flat, is every answer right?

Every second the memory and the open files of each of its processes are noted. Flat means: a straight line through the last four
fifths of the notes (the median of all slopes between two of them, so that no single note matters) rises by less than a tenth in
an hour.

python -m benchmarks.soak [--minutes 10] [--plot soak.png]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.endpoints.machine import LOAD_CORE, family, name_of, pinned
from benchmarks.endpoints.servers import Server, entities, said
from benchmarks.figure import Figure, show
from benchmarks.peers import PLACE

PART, WARM_S = 0.7, 8
RISE = 0.10
"""Of its memory, in an hour."""


@dataclass
class Note:
    """One process: MB of 10^6 bytes and open files at each second."""

    name: str
    seconds: list[float] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def rise(self) -> float:
        """MB in an hour, by the last four fifths."""
        first = len(self.mb) // 5
        points = list(zip(self.seconds[first:], self.mb[first:], strict=True))
        # Each hundredth note is enough: all pairs of 600 notes are 180,000 slopes.
        points = points[:: max(1, len(points) // 200)]
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2)]
        return statistics.median(slopes) * 3600 if slopes else 0.0


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--minutes", type=float, default=10.0)
    asked.add_argument("--plot", type=Path, default=PLACE / "soak.png")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder, entities(Path(folder)) as server:
        most = _load(server, WARM_S, 0).wait_for()["rps"]
        rate = PART * most
        print(f"it takes {most:,.0f} mixed requests/s; {given.minutes:g} minutes at {rate:,.0f}/s", flush=True)
        load = _load(server, given.minutes * 60, rate)
        notes = _watched(server, load)
        found = load.wait_for()
    _plot(notes, given.plot, f"{found['rps']:,.0f} mixed requests/s for {given.minutes:g} minutes")
    print(f"the plot is {given.plot}")
    for text in found["first"]:
        print(f"  wrong: {text}")
    return show(_figures(notes, found))


@dataclass
class _Load:
    child: subprocess.Popen[str]

    def wait_for(self) -> dict[str, Any]:
        output, _ = self.child.communicate()
        return dict(json.loads(output.strip().splitlines()[-1]))


def _load(server: Server, seconds: float, rate: float) -> _Load:
    command = [sys.executable, "-m", "benchmarks.endpoints.mixed", server.url, server.key, str(seconds), str(rate)]
    command += [said(server).get("grpc_url", "")]
    with pinned(LOAD_CORE):
        return _Load(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def _watched(server: Server, load: _Load) -> list[Note]:
    notes: dict[int, Note] = {}
    started = time.monotonic()
    while load.child.poll() is None:
        for process in family(server.pid):
            try:
                memory, files = process.memory_info().rss / 1e6, process.num_fds()
                note = notes.get(process.pid) or notes.setdefault(process.pid, Note(name_of(process)))
            except psutil.Error:
                continue
            note.seconds.append(time.monotonic() - started)
            note.mb.append(memory)
            note.files.append(files)
        time.sleep(1)
    return list(notes.values())


def _figures(notes: list[Note], found: dict[str, Any]) -> Iterator[Figure]:
    yield Figure(
        "answers", found["rps"], "req/s", note=f"p50 {found['p50']:.2f} ms, p99 {found['p99']:.2f}, p99.9 {found['p999']:.2f}"
    )
    yield Figure("requests behind the clock at most", found["late"], "")
    yield Figure("answers that were not right", found["wrong"], "", budget=0)
    for note in notes:
        flat = statistics.median(note.mb)
        yield Figure(f"{note.name}: resident", flat, "MB", note=f"at most {max(note.mb):.1f}")
        yield Figure(f"{note.name}: rise in an hour", note.rise(), "MB", budget=RISE * flat)
        later = note.files[len(note.files) // 2 :]
        sooner = note.files[: len(note.files) // 2] or later
        yield Figure(f"{note.name}: open files, second half", max(later), "", budget=max(sooner) + 5)


def _plot(notes: list[Note], path: Path, title: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (memory, files) = pyplot.subplots(2, 1, figsize=(9, 6), sharex=True, height_ratios=[3, 1])
    for note in notes:
        minutes = [second / 60 for second in note.seconds]
        memory.plot(minutes, note.mb, label=f"{note.name}: {note.rise():+.1f} MB in an hour")
        files.plot(minutes, note.files)
    memory.set_ylim(bottom=0)
    memory.set_ylabel("resident MB")
    memory.set_title(title)
    memory.legend()
    files.set_ylim(bottom=0)
    files.set_ylabel("open files")
    files.set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
