"""Every host keeps the port; the process host also brings back what died."""

import os
import signal
import socket
import time
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
        from falaj.adapters.local.host import _json

        assert [(_json(host.folder / name / "settings.json") or {})["port"] for name in ("one", "two")] == [20_000, 20_001]

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

    def test_a_new_setting_starts_the_server_anew(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        before = self.host().look("delay")
        self.host().options = {**self.place.options, "sync": "always"}
        self.host().serve(self.wanted(1), self.keys())
        after = self.host().look("delay")
        assert after.ready
        assert after.pid != before.pid
        assert after.url == before.url
