from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from falaj.api.serve import listen
from falaj.core.errors import Conflict, InvalidInput

pytestmark = pytest.mark.slow
SETTINGS = ["--set", "host=memory", "--set", "online=memory", "--set", "mirror=none", "--set", "runner=memory"]


class Plane:
    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.log = folder / f"log-{len(list(folder.glob('log-*')))}.txt"
        words = ["up", "--project", str(folder), *SETTINGS, "--set", "api_port=0", *settings]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FALAJ_")}
        with self.log.open("wb") as log:
            argv = [sys.executable, "-m", "falaj", *words]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True, env=environment)
        self.key = (folder / ".falaj" / "keys" / "operator.key").read_text().strip()

    def url(self) -> str:
        place = self.folder / ".falaj" / "api.json"
        until = time.monotonic() + 20
        while not place.is_file():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)
        return str(json.loads(place.read_text())["url"])

    def call(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        request = urllib.request.Request(self.url() + path, None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {self.key if key is None else key}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text('"""Declares nothing."""\n')
    subprocess.run(
        [sys.executable, "-m", "falaj", "init", "--project", str(tmp_path), *SETTINGS], check=True, capture_output=True
    )
    return tmp_path


@pytest.fixture
def plane(folder: Path) -> Iterator[Plane]:
    plane = Plane(folder, "--set", "clock=replay")
    try:
        yield plane
    finally:
        plane.process.kill()
        plane.process.wait()


def test_it_answers_to_a_key_and_stops_when_told(plane: Plane) -> None:
    assert plane.call("/health", key="") == {"status": "ok"}
    assert plane.call("/v1/status")["clock"] == "replay"
    with pytest.raises(urllib.error.HTTPError) as refused:
        plane.call("/v1/status", key="falaj_000000000000_" + "A" * 43)
    assert refused.value.code == 401
    refused.value.close()
    assert plane.stop() == 0
    assert not (plane.folder / ".falaj" / "api.json").exists()


def test_time_moves_when_it_is_told_and_never_back_before_what_the_ledger_holds(plane: Plane) -> None:
    assert plane.call("/v1/worker:tick", {"now": "2213-05-01T00:00:00Z"})["now"].startswith("2213-05-01")
    with pytest.raises(urllib.error.HTTPError) as refused:
        plane.call("/v1/worker:tick", {"now": "2013-04-30T00:00:00Z"})
    assert refused.value.code == 409
    refused.value.close()


def test_a_second_control_plane_is_refused(plane: Plane) -> None:
    plane.url()
    second = Plane(plane.folder)
    assert second.process.wait(20) == Conflict.exit_code
    assert "error[conflict]" in second.log.read_text()


def test_under_the_wall_clock_it_ticks_by_itself(folder: Path) -> None:
    plane = Plane(folder, "--set", "tick=0.05")
    try:
        first = _events(plane)
        until = time.monotonic() + 10
        while _events(plane) == first and time.monotonic() < until:
            time.sleep(0.1)
        assert "audit.checkpoint" in {event["verb"] for event in plane.call("/v1/audit:history")}
    finally:
        plane.process.kill()
        plane.process.wait()


def _events(plane: Plane) -> int:
    return len(plane.call("/v1/audit:history"))


def test_a_taken_port_is_a_conflict_with_a_hint() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict, match="is taken") as caught:
            listen("127.0.0.1", taken.getsockname()[1])
    assert re.search("api_port", caught.value.hint)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot listen"):
        listen("192.0.2.1", 0)


def test_what_init_makes_is_the_owners_alone(folder: Path) -> None:
    state = folder / ".falaj"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (state / "keys").iterdir() if p.suffix != ".pub"} == {0}


def test_a_step_that_nobody_started_is_not_found(folder: Path) -> None:
    argv = [sys.executable, "-m", "falaj", "step", "--project", str(folder), "release", "nothing", *SETTINGS]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.split(":")[0]) == (3, "error[not_found]")
