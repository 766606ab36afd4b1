"""The servers under test, each started on the first core, timed until it is ready, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.endpoints.cases import PATH, RECIPE
from benchmarks.endpoints.machine import SERVER_CORE, family, pinned
from benchmarks.peers import HERE, python_of
from falaj.adapters.local.signing import sign_envelope
from falaj.core.codec import canonical, encode
from falaj.inference.models import MANIFEST_TYPE
from falaj.ports.host import Arm
from tests.kits.endpoint import Installation
from tests.kits.servers import free_port

CHALLENGER = 0.5
"""The challenger's share: half of the units, the most that a split can cost, as every batch is then two."""


@dataclass(frozen=True)
class Server:
    """A server that answers. `pid`: of the process that started all the others. `ready_s`: from its start."""

    url: str
    pid: int
    ready_s: float
    key: str = ""
    folder: Path = Path()
    grpc: str = ""

    @property
    def infer(self) -> str:
        return self.url + PATH


@contextlib.contextmanager
def falaj(
    folder: Path,
    models: Sequence[bytes],
    *,
    program: Sequence[str] = ("falaj.serve",),
    cores: Sequence[int] = (SERVER_CORE,),
    **options: Any,
) -> Iterator[Server]:
    """An endpoint with a key, a prediction log, metrics, and one model for each arm. `options`: of the server's settings.

    `program`: what `python -m` runs in place of the server's own start. `cores`: where it runs.
    """
    place = Installation(folder, {"clock": "wall", **options})
    with _served(place, _arms(place, models), program, cores) as server:
        yield server


@contextlib.contextmanager
def entities(folder: Path, **options: Any) -> Iterator[Server]:
    """An endpoint with two small models that look features up; a request says itself when it happens."""
    place = Installation(folder, {"clock": "replay", **options})
    place.store()
    with _served(place, [place.arm(1, share=1 - CHALLENGER), place.arm(2, "challenger", CHALLENGER)]) as server:
        yield server


@contextlib.contextmanager
def _served(
    place: Installation, arms: Sequence[Arm], program: Sequence[str] = ("falaj.serve",), cores: Sequence[int] = (SERVER_CORE,)
) -> Iterator[Server]:
    key = place.key("bench", "caller", "operator")
    place.host.serve(place.wanted(*arms), place.keys)
    url, pid = place.url, place.host.look("delay").pid
    # The host has written every file. From here on the server is ours alone: timed, pinned, and not started again.
    place.host.close()
    _end(pid)
    command = [sys.executable, "-m", *program, str(place.folder)]
    with _started(command, url, place.state / "out.txt", cores) as (child, ready_s):
        yield Server(url, child, ready_s, key, place.folder)


def _arms(place: Installation, models: Sequence[bytes]) -> list[Arm]:
    made = []
    shares = (1.0,) if len(models) == 1 else (1 - CHALLENGER, CHALLENGER)
    for version, (data, share, role) in enumerate(zip(models, shares, ("champion", "challenger"), strict=False), 1):
        digest, name = place.blobs.put(data), f"model/delay@{version}"
        manifest = {"model": name, "digest": digest, "recipe": encode(RECIPE), "places": {}}
        envelope = sign_envelope(canonical(manifest), MANIFEST_TYPE, place.signer)
        made.append(Arm(role, name, digest, share, f"release/delay@{version}", envelope))
    return made


@contextlib.contextmanager
def mlserver(folder: Path, model: bytes, peer: str = "mlserver", cores: Sequence[int] = (SERVER_CORE,)) -> Iterator[Server]:
    """MLServer with the same model. `peer`: the environment."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    ports = [free_port() for _ in range(3)]
    command = [str(python_of(peer)), str(HERE / "mlserver_serve.py"), str(folder / "model.onnx"), *map(str, ports)]
    url = f"http://127.0.0.1:{ports[0]}"
    with _started(command, url, folder / "out.txt", cores) as (child, ready_s):
        yield Server(url, child, ready_s, grpc=f"127.0.0.1:{ports[1]}")


@contextlib.contextmanager
def floor(folder: Path, models: Sequence[bytes]) -> Iterator[Server]:
    """The least that a server in Python can do with these models: see benchmarks.endpoints.floor."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{place}.onnx" for place in range(len(models))]
    for path, model in zip(paths, models, strict=True):
        path.write_bytes(model)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.endpoints.floor", str(port), *map(str, paths)]
    with _started(command, f"http://127.0.0.1:{port}", folder / "out.txt") as (child, ready_s):
        yield Server(f"http://127.0.0.1:{port}", child, ready_s)


@contextlib.contextmanager
def _started(
    command: Sequence[str], url: str, output: Path, cores: Sequence[int] = (SERVER_CORE,)
) -> Iterator[tuple[int, float]]:
    """(pid, seconds from its start until it says that it is ready). Raises RuntimeError where it never does."""
    # Installed packages come with their bytecode; a checkout keeps it from the first start on, unless it is told not to.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with output.open("wb") as out, pinned(*cores):
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=environment
        )
    try:
        host, port = url.removeprefix("http://").split(":")
        while not _is_ready(host, int(port)):
            if child.poll() is not None or time.perf_counter() - started > 60:
                raise RuntimeError(f"{command[2]} did not get ready: {output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)
        yield child.pid, time.perf_counter() - started
    finally:
        _end(child.pid)
        child.wait()


def _is_ready(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5) as raw:
            raw.sendall(f"GET /v2/health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return raw.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _end(pid: int) -> None:
    """Asks the whole family to go, and waits; what does not go is killed."""
    with contextlib.suppress(psutil.NoSuchProcess):
        gone = family(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _, left = psutil.wait_procs(gone, timeout=15)
        for process in left:
            process.kill()


def settle(server: Server) -> None:
    """Returns once all closed segments of the log are sealed: what was put off is its own cost, and not its neighbour's."""
    folder = server.folder / "segments"
    for _ in range(600):
        if server.folder == Path() or len(list(folder.glob("*.jsonl"))) - len(list(folder.glob("*.seal"))) <= 1:
            return
        time.sleep(0.1)


def said(server: Server) -> dict[str, Any]:
    """What the endpoint says of itself."""
    return dict(json.loads((server.folder / "server.json").read_text()))
