"""Every sink of lineage keeps the contract; the file mends a line that was cut short, the collector's answer is not believed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from falaj.adapters.local.lineage import FileLineage, HttpLineage
from falaj.adapters.memory.lineage import MemoryLineage
from falaj.core.errors import InvalidInput, Unavailable
from falaj.testing.lineage import Collected, LineageSuite

EVENT = {"eventType": "START", "run": {"runId": "0"}}


class Collector(BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[Mapping[str, str], Any]]] = []
    status: ClassVar[int] = 201

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((dict(self.headers.items()), json.loads(body)))
        self.send_response(type(self).status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the standard library's name
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.got, Collector.status = [], 201
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/api/v1/lineage"
    server.shutdown()
    thread.join()
    server.server_close()


class TestMemory(LineageSuite):
    @pytest.fixture
    def collected(self) -> Collected:
        sink = MemoryLineage()
        return sink, lambda: list(sink.events)


class TestFile(LineageSuite):
    @pytest.fixture
    def collected(self, tmp_path: Path) -> Collected:
        path = tmp_path / "deep" / "lineage.jsonl"
        return FileLineage(path), lambda: [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class TestHttp(LineageSuite):
    @pytest.fixture
    def collected(self, collector: str) -> Collected:
        return HttpLineage(collector), lambda: [body for _, body in Collector.got]


def test_a_line_that_a_crash_cut_short_is_ended_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lineage.jsonl"
    path.write_text('{"whole":1}\n{"cut":')
    FileLineage(path).emit([EVENT])
    assert [json.loads(line) for line in path.read_text().splitlines() if line != '{"cut":'] == [{"whole": 1}, EVENT]


def test_a_file_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written"):
        FileLineage(tmp_path).emit([EVENT])


def test_the_key_goes_along_and_is_never_told(collector: str) -> None:
    HttpLineage(collector, b"geheim").emit([EVENT])
    assert Collector.got[0][0]["Authorization"] == "Bearer geheim"
    Collector.status = 401
    with pytest.raises(Unavailable, match="answered 401") as told:
        HttpLineage(collector, b"geheim").emit([EVENT])
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize("status", [302, 404, 500, 503])
def test_whatever_is_no_success_comes_again(collector: str, status: int) -> None:
    Collector.status = status
    with pytest.raises(Unavailable):
        HttpLineage(collector).emit([EVENT, EVENT])
    assert len(Collector.got) == 1, "no redirect is followed, and what comes after waits for its turn"


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="took no lineage"):
        HttpLineage("http://127.0.0.1:9/api/v1/lineage", timeout=1).emit([EVENT])


@pytest.mark.parametrize(
    "url", ["http://collector.example/x", "ftp://127.0.0.1/x", "https://u:p@collector.example/x", "https://", "x"]
)
def test_an_address_that_is_not_to_be_used_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"OpenLineage collector|is not encrypted"):
        HttpLineage(url)
