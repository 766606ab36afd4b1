"""A real witness in a process of its own, on a free port."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunningWitness:
    url: str
    vkey: str
    folder: Path

    @property
    def setting(self) -> str:
        return f"{self.vkey} {self.url}"


@contextmanager
def running_witness(
    folder: Path, trusted: Sequence[str] = (), name: str = "witness.example/w1", *, kill: bool = False
) -> Iterator[RunningWitness]:
    argv = [sys.executable, "-m", "falaj.witness", str(folder), "--port", "0", "--name", name]
    for vkey in trusted:
        argv += ["--trust", vkey]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.stderr.read())
        url, vkey = line.split()
        yield RunningWitness(url, vkey, folder)
    finally:
        (process.kill if kill else process.terminate)()
        process.wait(20)
        process.stdout.close()
        process.stderr.close()
