"""Every host keeps the port; the process host also brings back what died."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from falaj.adapters.local.host import ProcessHost
from falaj.adapters.memory.host import MemoryHost
from falaj.core.errors import Conflict, Unavailable
from falaj.ports.host import Arm, Host, Wanted
from falaj.testing.host import HostContract
from tests.kits.endpoint import Installation


class TestMemoryHost(HostContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _open(self) -> None:
        self._host = MemoryHost()

    def host(self) -> Host:
        return self._host

    def wanted(self, revision: int) -> Wanted:
        return Wanted(
            "delay", revision, (Arm("champion", "model/delay@1", "sha256:" + "0" * 64, 1.0, "release/delay@1"),), "s", 0.5
        )


@pytest.mark.slow
class TestProcessHost(HostContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _open(self, tmp_path: Path) -> Any:
        self.place = Installation(tmp_path)
        self.arm = self.place.arm()
        yield
        self.place.close()

    def host(self) -> ProcessHost:
        return self.place.host

    def wanted(self, revision: int) -> Wanted:
        return Wanted("delay", revision, (self.arm,), "s", 0.5)

    def victims(self) -> list[int]:
        found = [self.host().look("delay").pid, *self.place.workers().values()]
        return [pid for pid in found if pid and lives(pid)]

    def test_a_server_that_was_killed_is_started_again_at_the_same_address(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        before = self.host().look("delay")
        os.kill(before.pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while (seen := self.host().look("delay")).pid in (0, before.pid) or not seen.ready:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert (seen.url, seen.revision) == (before.url, 1)

    def test_serving_outlives_the_host_and_is_found_by_the_next_one(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        before = self.host().look("delay")
        self.host().close()
        following = ProcessHost(self.place.state / "serving", self.place.state, options=self.place.options)
        assert following.look("delay").pid == before.pid
        assert following.supervise() == []
        following.stop("delay")
        assert not psutil.pid_exists(before.pid) or psutil.Process(before.pid).status() == psutil.STATUS_ZOMBIE
        following.close()

    def test_another_process_number_is_not_taken_for_the_server(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        pid = self.host().look("delay").pid
        self.host().stop("delay")
        told = self.place.folder / "server.json"
        told.write_text(told.read_text().replace(f'"pid":{pid}', f'"pid":{os.getpid()}'))
        assert self.host().look("delay").pid == 0

    def test_a_port_that_is_taken_is_a_conflict(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            host = ProcessHost(
                self.place.state / "serving", self.place.state, port=taken.getsockname()[1], options=self.place.options
            )
            with pytest.raises(Conflict, match="taken by another program"):
                host.serve(self.wanted(1), self.keys())
            host.close()

    def test_a_second_endpoint_gets_a_port_of_its_own(self) -> None:
        host = ProcessHost(self.place.state / "serving", self.place.state, port=20_000, options=self.place.options)
        for name in ("one", "two"):
            (host.folder / name).mkdir(parents=True)
            host._settle(name, host.folder / name)
        from falaj.adapters.local.folder import read_json

        assert [(read_json(host.folder / name / "settings.json") or {})["port"] for name in ("one", "two")] == [20_000, 20_001]

    def test_a_folder_that_cannot_be_written_is_unavailable(self) -> None:
        blocked = self.place.state / "blocked"
        blocked.write_text("a file where a folder is wanted")
        host = ProcessHost(blocked, self.place.state)
        with pytest.raises(Unavailable):
            host.serve(self.wanted(1), self.keys())

    def test_a_server_without_its_pepper_says_why_it_does_not_start(self) -> None:
        (self.place.state / "keys" / "pepper").unlink()
        with pytest.raises(Unavailable, match="pepper"):
            self.host().serve(self.wanted(1), self.keys())
        self.host().stop("delay")

    def test_secrets_and_wishes_are_for_the_owner_only(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        for path in self.place.folder.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path

    def test_a_new_setting_changes_the_workers_one_generation_after_the_other(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        before, workers = self.host().look("delay"), self.place.workers()
        with Asking(self.place.url) as asking:
            self.host().options = {**self.place.options, "sync": "always", "workers": 2}
            self.host().serve(self.wanted(1), self.keys())
        after = self.host().look("delay")
        assert after.ready
        assert (after.pid, after.url) == (before.pid, before.url)
        assert sorted(slot.partition("-")[0] for slot in self.place.workers()) == ["grpc", "http", "http"]
        assert not set(self.place.workers().values()) & set(workers.values())
        assert after.cpu_seconds > before.cpu_seconds
        assert after.memory_bytes > before.memory_bytes
        assert asking.failed == []
        assert asking.answered

    def test_settings_that_do_not_work_leave_the_old_workers_serving(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        workers = self.place.workers()
        pepper = self.place.state / "keys" / "pepper"
        pepper.rename(pepper.with_suffix(".away"))
        self.host().options = {**self.place.options, "sync": "always"}
        with pytest.raises(Unavailable, match="pepper"):
            self.host().serve(self.wanted(1), self.keys())
        assert workers.items() <= self.place.workers().items()
        assert ask(self.place.url) == 200
        pepper.with_suffix(".away").rename(pepper)
        self.host().serve(self.wanted(1), self.keys())
        assert not set(self.place.workers().values()) & set(workers.values())

    def test_a_worker_that_was_killed_comes_back_and_nobody_is_refused(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        before, workers = self.host().look("delay"), self.place.workers()
        with Asking(self.place.url) as asking:
            os.kill(workers["http-0"], signal.SIGKILL)
            self.settled(lambda: self.place.workers().get("http-0", workers["http-0"]) != workers["http-0"])
        assert self.host().look("delay").pid == before.pid
        assert "ConnectionRefusedError" not in asking.failed

    def test_a_supervisor_that_was_killed_comes_back_and_no_request_fails(self) -> None:
        self.host().options |= {"workers": 2}
        self.host().serve(self.wanted(1), self.keys())
        before, workers = self.host().look("delay"), self.place.workers()
        with Asking(self.place.url) as asking:
            os.kill(before.pid, signal.SIGKILL)
            self.settled(lambda: self.host().look("delay").pid not in (0, before.pid))
            self.host().serve(self.wanted(2), self.keys())
        assert self.place.workers() == workers
        assert self.host().look("delay").revision == 2
        assert asking.failed == []
        assert asking.answered

    def test_workers_without_a_supervisor_are_seen_as_serving_and_can_be_stopped(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        self.host().close()
        host = ProcessHost(self.place.state / "serving", self.place.state, options=self.place.options)
        pid, workers = host.look("delay").pid, self.place.workers()
        os.kill(pid, signal.SIGKILL)
        self.settled(lambda: host.look("delay").pid == 0)
        assert host.look("delay").ready
        host.stop("delay")
        assert not host.look("delay").ready
        assert not [one for one in workers.values() if lives(one)]

    def test_a_worker_that_hangs_is_killed_and_replaced(self) -> None:
        self.host().options |= {"hang_s": 2.0, "grpc": "off"}
        self.host().serve(self.wanted(1), self.keys())
        (worker,) = self.place.workers().values()
        os.kill(worker, signal.SIGSTOP)
        self.settled(lambda: worker not in self.place.workers().values() and self.host().look("delay").ready)
        assert ask(self.place.url) == 200
        assert "no sign of life" in (self.place.folder / "server.log").read_text()

    def test_a_second_supervisor_of_the_same_folder_is_turned_away(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        command = [sys.executable, "-m", "falaj.serve", str(self.place.folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == Conflict.exit_code
        assert "Another supervisor" in done.stderr

    def test_a_port_taken_by_a_stranger_is_a_conflict_also_while_the_endpoint_runs(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        url = self.place.url
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port = int(url.rpartition(":")[2]) + 1
            while True:
                with contextlib.suppress(OSError):  # what is in use otherwise is passed over
                    taken.bind(("127.0.0.1", port))
                    break
                port += 1
            taken.listen()
            self.host().port = port
            with pytest.raises(Conflict, match="taken by another program"):
                self.host().serve(self.wanted(1), self.keys())
        assert ask(url) == 200

    def settled(self, is_so: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not is_so():
            assert time.monotonic() < until, (self.place.folder / "server.log").read_text()
            time.sleep(0.02)


def ask(url: str) -> int:
    """The status of one request on a connection of its own."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        return int(raw.recv(100).split(b" ", 2)[1])


class Asking:
    """Asks again and again, each time on a new connection, and counts what was not answered by 200."""

    def __init__(self, url: str) -> None:
        self.url, self.answered, self.failed = url, 0, list[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                status = ask(self.url)
            except (OSError, IndexError) as exc:
                self.failed.append(type(exc).__name__)
            else:
                self.answered += 1
                if status != 200:
                    self.failed.append(str(status))


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
