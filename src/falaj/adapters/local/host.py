"""Endpoints as processes of this machine: each has a supervisor of its own, and serves on while the control plane is away."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from falaj.adapters.local.folder import border, locked, read_json, wish, write_json
from falaj.core.errors import Conflict, FalajError, NotFound, Unavailable, error_from_dict
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.ports.host import EXCLUDED, Seen, Wanted

Pair = Callable[[str, Path], Mapping[str, str]]
READY_WITHIN_S = 20.0
STOP_WITHIN_S = 15.0
SAME_START_S = 5.0
"""Two readings of one process's start may differ: both are counted from the machine's boot, which is known to a second."""
LOG_LIMIT = 5_000_000
_LONGEST_PAUSE_S = 30.0


class ProcessHost:
    """One folder an endpoint in `folder`. capabilities: `split`.

    The files are the whole truth: any process that opens the same folder sees and rules the same servers. A server is a
    supervisor and its workers. It starts workers again that died; a supervisor that died is started again by `serve`, by
    `supervise`, and once a second by a thread for as long as this object is open. Its workers serve on meanwhile.
    """

    capabilities: frozenset[str] = frozenset({"split"})

    def __init__(
        self,
        folder: Path,
        state: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        options: Mapping[str, Any] | None = None,
        pair: Pair | None = None,
    ) -> None:
        """`state`: the folder that holds blobs, keys and the online store. `options`: more of the server's settings, as
        `clock` and `sync`. `port`: of the first endpoint, the next ones follow; 0 picks free ones, which an endpoint keeps; the
        option `grpc_port` likewise. `pair`: sees to an endpoint's certificate, and tells the settings that name it; asked at each
        start and each minute."""
        self.folder, self.state = Path(folder).absolute(), Path(state).absolute()
        self.host, self.port, self.options = host, port, dict(options or {})
        self._pair, self._paired = pair, 0.0
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: dict[str, list[float]] = {}
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def serve(self, wanted: Wanted, keys: Mapping[str, Mapping[str, Any]]) -> None:
        folder, started = self._folder(wanted.endpoint), iso(datetime.now(UTC))
        with border(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if wanted.killed:
                wish(wanted, folder)  # not behind somebody who holds the lock while a supervisor starts
            with locked(folder):
                self._settle(wanted.endpoint, folder, wanted.stream)
                write_json(folder / "keys.json", dict(keys))
                wish(wanted, folder)
                if not self._is_up(folder):
                    self._start(wanted.endpoint, folder)
                elif process := self._process(folder):
                    with contextlib.suppress(psutil.Error):
                        process.send_signal(signal.SIGHUP)  # what failed before is tried again at once
        self._watch()
        self._await(wanted, folder, started)

    def allow(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        for folder in self._folders():
            with border(folder):
                write_json(folder / "keys.json", dict(keys))

    def exclude(self, endpoint: str, tokens: Collection[str]) -> None:
        folder = self._folder(endpoint)
        if not tokens and not (folder / EXCLUDED).exists():
            return  # most endpoints are about nobody, and have no such file
        with border(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(folder / EXCLUDED, {"tokens": sorted(tokens)})

    def look(self, endpoint: str) -> Seen:
        folder = self._folder(endpoint)
        if not (folder / "settings.json").exists():
            raise NotFound.named("endpoint", endpoint, [path.name for path in self._folders()])
        told = read_json(folder / "server.json") or {}
        supervisor, workers = self._process(folder), _workers(folder)
        # Without a supervisor the workers serve on, and are as ready as they were.
        is_ready = bool(told.get("ready")) and bool(workers)
        if supervisor is not None and is_ready:
            self._starts.pop(endpoint, None)  # it got up: only a server that never does is started at longer and longer intervals
        memory, seconds = _costs([*([supervisor] if supervisor else []), *workers])
        pid = supervisor.pid if supervisor is not None else 0
        return Seen(endpoint, str(told.get("url", "")), is_ready, int(told.get("revision", -1)), pid, memory, seconds)

    def stop(self, endpoint: str) -> None:
        """Lets the server answer what it has taken on, then ends it. It is not started again until it is served again."""
        self.look(endpoint)
        folder = self._folder(endpoint)
        with border(folder), locked(folder):
            (folder / "wanted.json").unlink(missing_ok=True)
            self._end(endpoint, folder)

    def supervise(self) -> list[str]:
        """Starts again whatever died, each time after a longer pause; returns the endpoints that it started."""
        started = []
        self._renew()
        for folder in self._folders():
            if not (folder / "wanted.json").exists():
                continue
            if self._is_up(folder):
                self.look(folder.name)
                continue
            if not self._may_start(folder.name):
                continue
            with contextlib.suppress(FalajError, OSError), locked(folder):
                if (folder / "wanted.json").exists() and not self._is_up(folder):
                    self._start(folder.name, folder)
                    started.append(folder.name)
        return started

    def close(self) -> None:
        """Stops watching. The servers go on serving: they need nobody."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for child in self._children.values():
            child.poll()
            # They outlive this object on purpose; without this, Python warns of it.
            child.returncode = child.returncode if child.returncode is not None else 0

    # --- one server ---

    def _renew(self) -> None:
        """Once a minute: certificates that are half over. What an endpoint has goes on being shown where that fails."""
        if self._pair is None or time.monotonic() < self._paired + 60.0:
            return
        self._paired = time.monotonic()
        for folder in self._folders():
            if (folder / "wanted.json").exists():
                with contextlib.suppress(FalajError, OSError):
                    self._pair(folder.name, folder)

    def _settle(self, endpoint: str, folder: Path, stream: Mapping[str, Any] | None = None) -> bool:
        """Writes settings.json, and tells whether it is new. A supervisor that runs sees that, and changes its workers."""
        held = read_json(folder / "settings.json") or {}
        settings = {
            "endpoint": endpoint,
            "host": self.host,
            "port": self._port(endpoint, held, "port", self.port),
            "blobs": str(self.state / "blobs"),
            "online": str(self.state / "online.lmdb"),
            "public_key": str(self.state / "keys" / "model.ed25519.pub"),
            "pepper": str(self.state / "keys" / "pepper"),
            **({"stream_folder": str(self.state / "streams")} if stream else {}),
            **{f"stream_{name}": value for name, value in (stream or {}).items()},
            **self.options,
            **(self._pair(endpoint, folder) if self._pair is not None else {}),
            "grpc_port": self._port(endpoint, held, "grpc_port", int(self.options.get("grpc_port", 0))),
        }
        if held == settings:
            return False
        write_json(folder / "settings.json", settings)
        return True

    def _port(self, endpoint: str, held: Mapping[str, Any], name: str, first: int) -> int:
        """An endpoint keeps its ports for life, so that its callers find it again."""
        others = [read_json(path / "settings.json") or {} for path in self._folders() if path.name != endpoint]
        if name in held and held.get("host") == self.host and (first == 0 or int(held[name]) >= first):
            return int(held[name])
        if first == 0:
            return _free_port(self.host)
        taken = {int(settings.get(name, 0)) for settings in others}
        while first in taken:
            first += 1
        return first

    def _start(self, endpoint: str, folder: Path) -> None:
        self._starts.setdefault(endpoint, []).append(time.monotonic())
        log = folder / "server.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            command = [sys.executable, "-m", "falaj.serve", str(folder)]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)  # noqa: S603
        finally:
            os.close(output)
        before = self._children.pop(endpoint, None)
        if before is not None:
            before.poll()
        self._children[endpoint] = child
        until = time.monotonic() + READY_WITHIN_S
        # Whoever holds the lock stays until the server has reported: nobody else may take it for missing and start a second one.
        while (
            time.monotonic() < until
            and child.poll() is None
            and (read_json(folder / "server.json") or {}).get("pid") != child.pid
        ):
            time.sleep(0.02)

    def _await(self, wanted: Wanted, folder: Path, started: str) -> None:
        """Until all workers took the revision over. Raises what the server gives as its reason since then, or Unavailable."""
        generation = hashlib.sha256((folder / "settings.json").read_bytes()).hexdigest()[:16]
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until:
            told = read_json(folder / "server.json")
            if told is not None and self._process(folder) is not None:
                if told["ready"] and told["revision"] >= wanted.revision and told["settings"] == generation:
                    return
                if told["problem"] and told["tried"] == wanted.revision:
                    raise error_from_dict(told["problem"])
                if told["down"] and told["wanted"] == generation and told["at"] >= started:
                    raise _down(wanted.endpoint, error_from_dict(told["down"]))
            child = self._children.get(wanted.endpoint)
            code = child.poll() if child is not None else None
            if code is not None:
                why = _tail(folder / "server.log")
                kind = Conflict if code == Conflict.exit_code else Unavailable
                raise kind(f"The server of {wanted.endpoint} did not start (exit {code}): {why}", f"see {folder / 'server.log'}")
            time.sleep(0.02)
        raise Unavailable(
            f"The server of {wanted.endpoint} was not ready within {READY_WITHIN_S:.0f} s: {_tail(folder / 'server.log')}",
            f"see {folder / 'server.log'}",
        )

    def _end(self, endpoint: str, folder: Path) -> None:
        process = self._process(folder)
        child = self._children.get(endpoint)
        if process is None and child is not None and child.poll() is None:
            process = psutil.Process(child.pid)  # started, but it has not reported yet
        if process is not None:
            _finish(process, child)
        self._children.pop(endpoint, None)
        for worker in _workers(folder):  # their supervisor was killed
            _finish(worker, None)

    def _is_up(self, folder: Path) -> bool:
        """Also while a server is starting and has not reported yet."""
        child = self._children.get(folder.name)
        return self._process(folder) is not None or (child is not None and child.poll() is None)

    def _process(self, folder: Path) -> psutil.Process | None:
        """The process that server.json is about; a later one with the same number is another one."""
        told = read_json(folder / "server.json")
        if told is None:
            return None
        child = self._children.get(folder.name)
        if child is not None and child.pid == told["pid"] and child.poll() is not None:
            return None
        try:
            process = psutil.Process(int(told["pid"]))
            if abs(process.create_time() - float(told["started"])) > SAME_START_S or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.Error:
            return None
        return process

    def _may_start(self, endpoint: str) -> bool:
        """At once for the first times within a minute, then after 1, 2, 4 … up to 30 s, until it gets ready."""
        now = time.monotonic()
        recent = self._starts[endpoint] = [at for at in self._starts.get(endpoint, []) if now - at < 60.0]
        pause = min(2.0 ** (len(recent) - 5), _LONGEST_PAUSE_S) if len(recent) > 4 else 0.0
        return not recent or now - recent[-1] >= pause

    # --- the watch ---

    def _watch(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._over.clear()
            self._thread = threading.Thread(target=self._keep_watching, name="falaj-host", daemon=True)
            self._thread.start()

    def _keep_watching(self) -> None:
        while not self._over.wait(1.0):
            with contextlib.suppress(FalajError, OSError):
                self.supervise()

    def _folder(self, endpoint: str) -> Path:
        return self.folder / Ref("endpoint", endpoint.removeprefix("endpoint/")).name

    def _folders(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("*/settings.json"))


def _workers(folder: Path) -> list[psutil.Process]:
    """The workers that live and have reported."""
    found = []
    for path in sorted((folder / "workers").glob("*.json")):
        told = read_json(path) or {}
        with contextlib.suppress(psutil.Error, KeyError, TypeError, ValueError):
            process = psutil.Process(int(told["pid"]))
            is_same = abs(process.create_time() - float(told["started"])) <= SAME_START_S
            if is_same and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _costs(running: Sequence[psutil.Process]) -> tuple[int, float]:
    """Bytes resident and seconds of processor time of all of them together, and of the workers that ended before."""
    memory, seconds = 0, 0.0
    for process in running:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            memory += process.memory_info().rss
            seconds += times.user + times.system + times.children_user + times.children_system
    return memory, seconds


def _down(endpoint: str, why: FalajError) -> FalajError:
    kind = Conflict if isinstance(why, Conflict) else Unavailable
    return kind(f"The server of {endpoint} does not start: {why.message}", why.hint)


def _finish(process: psutil.Process, child: subprocess.Popen[bytes] | None) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        if not _gone(process, child, STOP_WITHIN_S):
            process.kill()
            _gone(process, child, STOP_WITHIN_S)


def _gone(process: psutil.Process, child: subprocess.Popen[bytes] | None, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if child is not None and child.pid == process.pid:
            if child.poll() is not None:
                return True
        elif not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _tail(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return "it printed nothing"
    return " | ".join(lines[-3:]) or "it printed nothing"
