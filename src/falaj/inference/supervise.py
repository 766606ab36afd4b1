"""The supervisor of one endpoint: keeps its workers alive, hands them their sockets, and sums up what they report."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from falaj.core.errors import Conflict, FalajError, Unavailable, error_from_dict
from falaj.core.moments import iso
from falaj.inference import processes
from falaj.inference.listening import Sockets
from falaj.inference.locks import take
from falaj.inference.report import Report, read_report, stamp, sum_of, write_json
from falaj.inference.sealing import Sealing
from falaj.inference.settings import ServerSettings, address_of, load_settings
from falaj.inference.slots import Drain, Falls, Limits, Start, Step, Table, Worker, is_settled, steps

QUICK_S, CALM_S = 0.02, 0.2
"""Between two looks: while something changes, and while nothing does."""
AFTER_A_WISH_S = 2.0
STALE_S = 60.0
COUNTED = "falaj_worker_restarts_total"
PROGRAM = "falaj.serve"
"""The module that a worker runs."""
ENVIRONMENT: Mapping[str, str] = {
    # glibc gives threads heaps of their own, and each would keep room for a model that was loaded there once.
    "MALLOC_ARENA_MAX": "1",
    # numpy starts a thread for each core, which spins at first; they are for products of matrices, which nothing here asks for.
    "OPENBLAS_NUM_THREADS": "1",
}
"""What a worker is given, unless the endpoint's own environment says otherwise."""

Kinds = Callable[[ServerSettings], Mapping[str, int]]
"""How many workers of which kind the settings want."""
Complain = Callable[[FalajError], None]


@dataclass(slots=True)
class Process:
    worker: Worker
    pid: int
    started: float
    child: subprocess.Popen[bytes] | None
    """None for one that an earlier supervisor started."""
    report: Report | None = None
    seen: tuple[int, int, int] = (0, 0, 0)
    was_ready: bool = False
    was_asked: bool = False
    """Whether it leaves because it was told to."""

    def is_gone(self) -> bool:
        return self.child.poll() is not None if self.child is not None else not processes.lives(self.pid, self.started)

    def signal(self, number: int) -> None:
        if not self.is_gone():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def read(self, path: Path) -> None:
        """Takes in what it says of itself, if it said anything since."""
        seen = stamp(path)
        if seen == self.seen or (report := read_report(path)) is None or report.pid != self.pid:
            return
        self.seen, self.report = seen, report
        self.was_ready = self.was_ready or report.ready
        now = time.monotonic()
        leaving = self.worker.leaving if self.worker.leaving is not None or not report.leaving else now
        self.worker = replace(self.worker, generation=report.generation, ready=report.ready, beat=now, leaving=leaving)


class Supervisor:
    """Owns the sockets and the table of workers of a serving folder.

    Killed, it leaves its workers serving. The next one finds them by their reports, borrows their socket and goes on.
    """

    def __init__(self, folder: Path, kinds: Kinds, complain: Complain) -> None:
        self.folder, self.kinds, self.complain = folder, kinds, complain
        self._workers, self._metrics = folder / "workers", folder / "metrics"
        self._sockets = Sockets(self._workers)
        self._processes: dict[str, Process] = {}
        self._falls: dict[str, Falls] = {}
        self._down: dict[str, FalajError] = {}
        """Why workers of a kind do not start; of no kind: why the settings are not taken."""
        self._restarts: dict[str, int] = {}
        self._told: Mapping[str, Any] = {}
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._wished = time.monotonic()
        self._asked = 0.0
        """When somebody last asked for everything to be tried again."""
        self._is_over = False

    def run(self) -> None:
        """Until it is told to stop and all workers have ended.

        Raises Conflict where the port or the folder is taken, Unavailable where it cannot be written.
        """
        with _alone(self.folder), _woken() as wait:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._leave)
            signal.signal(signal.SIGHUP, self._again)
            self._begin()
            while not self._is_over or self._processes:
                self._turn()
                wait(QUICK_S if self._is_quick() else CALM_S)
            self._sealing.close()
            self._sockets.close()
            self._report()

    def _begin(self) -> None:
        self._workers.mkdir(mode=0o700, exist_ok=True)
        self._about = {"pid": os.getpid(), "started": processes.born(os.getpid()), "since": iso(datetime.now(UTC))}
        self._has_changed("settings.json")
        self.settings, self.generation = load_settings(self.folder)
        self._tried = self.generation
        self._restarts = dict.fromkeys(self.kinds(self.settings), 0) | _read_restarts(self._metrics / "supervisor.json")
        self._note()
        self._sweep()
        self._adopt()
        try:
            self._listen(self.settings)
        except Conflict:
            if not self._processes:
                raise
            # Ours hold the port and lend it to nobody: they hang.
            for process in self._processes.values():
                process.signal(signal.SIGKILL)
            until = time.monotonic() + 2.0
            while time.monotonic() < until and not all(process.is_gone() for process in self._processes.values()):
                time.sleep(QUICK_S)
            self._listen(self.settings)
        self._sealing = self._seal()

    def _turn(self) -> None:
        if self._is_over:
            self._sockets.close()  # nobody new, from now on
        try:
            self._look()
            for step in steps(self._table(), time.monotonic(), self._limits()):
                self._do(step)
            self._report()
        except OSError as exc:
            # Neither a full disk nor a machine that is short of something ends who is to bring back the others.
            problem = Unavailable(f"Workers cannot be looked after: {exc}.", "make room on the disk, or free memory.")
            if str(self._down.get("machine")) != str(problem):
                self.complain(problem)
            self._down["machine"] = problem
            time.sleep(CALM_S)
        else:
            self._down.pop("machine", None)

    # --- what is the case ---

    def _look(self) -> None:
        if self._has_changed("wanted.json"):
            self._wished = time.monotonic()
        if self._has_changed("settings.json") and not self._is_over:
            self._take_settings()
        for slot, process in list(self._processes.items()):
            is_gone = process.is_gone()  # asked first: what it said last is read then
            process.read(self._workers / f"{slot}.json")
            if process.worker.ready and process.worker.generation == self._tried:
                self._falls.pop(process.worker.kind, None)
                self._down.pop(process.worker.kind, None)
            if is_gone:
                self._bury(slot, process)
        if self._has_changed("workers"):
            self._adopt()

    def _take_settings(self) -> None:
        """What cannot be read or bound leaves everything as it is, and is tried again."""
        try:
            settings, self._tried = load_settings(self.folder)
            if self._tried != self.generation:
                self._wished = time.monotonic()
                self._listen(settings)
                self.settings, self.generation = settings, self._tried
                self._falls.clear()
                self._down.clear()
                self._sealing.close()
                self._sealing = self._seal()
        except FalajError as exc:
            if str(self._down.get("")) != str(exc):
                self.complain(exc)
            self._down[""] = exc
            self._stamps.pop("settings.json", None)

    def _adopt(self) -> None:
        """Takes on workers that live and are not in the table: an earlier supervisor started them."""
        for path in self._workers.glob("*.json"):
            slot, report = path.stem, read_report(path)
            if slot in self._processes or report is None:
                continue
            if processes.lives(report.pid, report.started):
                now = time.monotonic()
                worker = Worker(slot, report.generation, report.ready, now, now)
                self._processes[slot] = Process(worker, report.pid, report.started, None, report)
                # One that leaves already was told to by whoever was here before.
                self._processes[slot].was_ready = report.ready or report.leaving
                self._processes[slot].was_asked = report.leaving
            elif (lock := take(self._workers / f"{slot}.lock")) is not None:
                self._forget(slot)  # unless one that lives there has not reported yet
                os.close(lock)

    def _bury(self, slot: str, process: Process) -> None:
        del self._processes[slot]
        if not process.was_asked:
            self._count(slot, process)
        self._forget(slot)

    def _forget(self, slot: str) -> None:
        for suffix in (".json", ".sock"):
            (self._workers / f"{slot}{suffix}").unlink(missing_ok=True)

    def _count(self, slot: str, process: Process) -> None:
        kind = process.worker.kind
        falls = self._falls.get(kind, Falls())
        self._falls[kind] = Falls(0 if process.was_ready else falls.count + 1, time.monotonic())
        ended = Unavailable(f"The worker {slot} ended{_exit(process.child)}.", "server.log says why; it is started again.")
        self.complain(ended)
        # What began before the last wish failed at something that may have been mended since.
        if not process.was_ready and process.worker.since >= self._asked:
            told = process.report.problem if process.report is not None else None
            self._down[kind] = error_from_dict(told) if told else ended
        self._restarts[kind] = self._restarts.get(kind, 0) + 1
        self._note()

    def _note(self) -> None:
        """The restarts, as workers note what they count."""
        told = {"at": 0, "families": {COUNTED: {json.dumps([kind]): times for kind, times in self._restarts.items()}}}
        with contextlib.suppress(OSError):
            self._metrics.mkdir(mode=0o700, exist_ok=True)
            write_json(self._metrics / "supervisor.json", told)

    # --- what is done about it ---

    def _do(self, step: Step) -> None:
        if isinstance(step, Start):
            self._start(step.kind)
        elif isinstance(step, Drain):
            process = self._processes[step.slot]
            process.worker, process.was_asked = replace(process.worker, leaving=time.monotonic()), True
            process.signal(signal.SIGTERM)
        else:
            self.complain(Unavailable(f"The worker {step.slot} is killed: {step.why}.", "it is started again."))
            self._processes[step.slot].signal(signal.SIGKILL)

    def _start(self, kind: str) -> None:
        slot, lock = self._free(kind)
        listeners = self._sockets.listeners if kind == "http" else []
        command = [sys.executable, "-m", PROGRAM, str(self.folder), "--worker", slot, *map(str, listeners)]
        try:
            child = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, pass_fds=(lock, *listeners), env={**ENVIRONMENT, **os.environ}
            )
        finally:
            os.close(lock)
        now = time.monotonic()
        self._processes[slot] = Process(Worker(slot, "", False, now, now), child.pid, 0.0, child)

    def _free(self, kind: str) -> tuple[str, int]:
        """A free slot and its lock. The worker inherits the lock: so whoever lives has it, also one that has not reported yet."""
        for number in count():
            slot = f"{kind}-{number}"
            lock = take(self._workers / f"{slot}.lock") if slot not in self._processes else None
            if lock is not None:
                return slot, lock
        raise AssertionError  # numbers do not end

    def _listen(self, settings: ServerSettings) -> None:
        self._sockets.open(settings.host, settings.port, [slot for slot in self._processes if slot.startswith("http-")])
        if "grpc" in self.kinds(settings):
            has_ours = any(slot.startswith("grpc-") for slot in self._processes)
            self._sockets.hold(settings.host, settings.grpc_port, alone=not has_ours)
        else:
            self._sockets.let_go()

    def _seal(self) -> Sealing:
        settings = self.settings
        return Sealing(self.folder / "segments", settings.endpoint, idle_s=settings.segment_idle_s, on_problem=self.complain)

    def _sweep(self) -> None:
        """Drafts of files that a killed process did not finish."""
        for folder in (self.folder, self._workers, self._metrics, self.folder / "segments"):
            for path in folder.glob(".*.*.*"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > STALE_S:
                        path.unlink()

    def _again(self, _number: int, _frame: Any) -> None:
        """Whoever asks has mended something: what failed is tried at once."""
        self._stamps.clear()
        self._falls.clear()
        self._down.clear()
        self._asked = self._wished = time.monotonic()

    def _leave(self, _number: int, _frame: Any) -> None:
        self._is_over = True

    # --- what is said about it ---

    def _report(self) -> None:
        reports = {slot: process.report for slot, process in self._processes.items() if process.report is not None}
        body = {
            **self._about,
            **address_of(self.settings, self._sockets.port, self._sockets.grpc_port),
            **sum_of(self._table(), reports, next(iter(self._down.values()), None)),
            "wanted": self._tried,
            "restarts": sum(self._restarts.values()),
        }
        if body == self._told:
            return
        try:
            write_json(self.folder / "server.json", {**body, "at": iso(datetime.now(UTC))})
            self._told = body
        except OSError as exc:
            # A full disk must not end an endpoint that answers; it is written as soon as there is room.
            if self._told:
                self.complain(Unavailable(f"server.json cannot be written: {exc.strerror}.", "make room on the disk."))
            self._told = {}

    def _table(self) -> Table:
        wanted = {} if self._is_over else self.kinds(self.settings)
        return Table(wanted, self.generation, [process.worker for process in self._processes.values()], self._falls)

    def _limits(self) -> Limits:
        # A second more than the workers give themselves.
        return Limits(hang_s=self.settings.hang_s, drain_s=self.settings.drain_s + 1.0, cores=processes.cores())

    def _is_quick(self) -> bool:
        return self._is_over or not is_settled(self._table()) or time.monotonic() - self._wished < AFTER_A_WISH_S

    def _has_changed(self, name: str) -> bool:
        now = stamp(self.folder / name)
        before, self._stamps[name] = self._stamps.get(name), now
        return now != before


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    if not os.access(folder, os.W_OK):
        raise Unavailable(f"{folder} cannot be written.", "check who owns it.")
    lock = take(folder / "supervisor.lock")
    if lock is None:
        raise Conflict(f"Another supervisor rules {folder}.", "one endpoint has one server: falaj status shows it.")
    try:
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _woken() -> Iterator[Callable[[float], None]]:
    """A wait that any signal ends: of a child that died, or of somebody who wants something."""
    reading, writing = os.pipe()
    for fd in (reading, writing):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait(seconds: float) -> None:
        if select.select([reading], [], [], seconds)[0]:
            os.read(reading, 4096)

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _exit(child: subprocess.Popen[bytes] | None) -> str:
    code = child.returncode if child is not None else None
    if code is None:
        return ""
    return f" (exit {code})" if code >= 0 else f" (signal {-code})"


def _read_restarts(path: Path) -> dict[str, int]:
    """By kind, as they were last noted."""
    try:
        told = json.loads(path.read_bytes())["families"][COUNTED]
        return {str(json.loads(key)[0]): int(times) for key, times in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}
