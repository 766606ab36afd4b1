"""Runs steps as processes of this machine, each in a session of its own, so that they outlive who started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from falaj.core.errors import Conflict, NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.ports.runner import Runner, RunState

SAME_START_S = 5.0
"""Two readings of one process's start may differ: both are counted from the machine's boot, which is known to a second."""
TAIL = 2000
"""Bytes of the log that are shown where a run failed."""


class ProcessRunner:
    """`argv` and then the step and the run's id are the command; it finds its parameters in the ledger.

    Each run has a folder: params.json, process.json (pid and start time, since pids are used again), log.txt, exit.
    """

    def __init__(self, folder: Path, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.argv = tuple(argv)
        self.environment = environment
        self._lock = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, run_id: str, step: str, params: Mapping[str, Any]) -> None:
        with self._lock:
            place = self._place(run_id)
            if self._process(place) is not None:
                return
            try:
                place.mkdir(parents=True, exist_ok=True, mode=0o700)
                (place / "exit").unlink(missing_ok=True)
                (place / "params.json").write_text(json.dumps(dict(params), default=str))
                with (place / "log.txt").open("ab") as log:
                    child = subprocess.Popen(  # noqa: S603  # argv is falaj's own, no shell reads it
                        [*self.argv, step, run_id], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        env=dict(self.environment) if self.environment is not None else None, start_new_session=True,
                    )  # fmt: skip
                (place / "process.json").write_text(
                    json.dumps({"pid": child.pid, "started": psutil.Process(child.pid).create_time()})
                )
            except OSError as exc:
                raise Unavailable(f"The run {run_id} could not be started: {exc}.", f"look at {place}.") from exc
            self._children[run_id] = child
        threading.Thread(target=self._wait, args=(run_id, child, place), daemon=True).start()

    def look(self, run_id: str) -> tuple[RunState, str]:
        place = self._place(run_id)
        if not (place / "process.json").is_file():
            raise NotFound(f"The run {run_id!r} was never submitted on this machine.", f"look at {self.folder}.")
        # A child of ours that has just ended is not over until its exit code is written down.
        if run_id in self._children or self._process(place) is not None:
            return "running", ""
        code = (place / "exit").read_text().strip() if (place / "exit").is_file() else "unknown"
        if code == "0":
            return "succeeded", ""
        return "failed", f"exit {code}: {self._tail(place)}"

    def cancel(self, run_id: str) -> None:
        """Asks the run's processes to stop, and ends them after five seconds."""
        process = self._process(self._place(run_id))
        if process is None:
            return
        for wanted in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, wanted)
            except ProcessLookupError:
                return
            if psutil.wait_procs([process], timeout=5)[0]:
                return

    def _wait(self, run_id: str, child: subprocess.Popen[bytes], place: Path) -> None:
        code = child.wait()
        try:
            (place / "exit.new").write_text(str(code))
            (place / "exit.new").replace(place / "exit")
        finally:
            self._children.pop(run_id, None)

    def _process(self, place: Path) -> psutil.Process | None:
        """The run's process while it lives; a pid that was given to somebody else does not count."""
        try:
            known = json.loads((place / "process.json").read_text())
            process = psutil.Process(int(known["pid"]))
            is_same = abs(process.create_time() - float(known["started"])) < SAME_START_S
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, psutil.Error):
            return None

    def _place(self, run_id: str) -> Path:
        if Ref("run", run_id).version is not None:
            raise Conflict(f"{run_id!r} is not a run's id.")
        return self.folder / run_id

    def _tail(self, place: Path) -> str:
        try:
            return (place / "log.txt").read_bytes()[-TAIL:].decode("utf-8", "replace").strip()
        except OSError:
            return "its log is gone."


_keeps_the_port: type[Runner] = ProcessRunner
