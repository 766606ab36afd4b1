"""What server.json makes of what the workers say."""

from pathlib import Path
from typing import Any

import pytest

from falaj.core.errors import Conflict
from falaj.inference.processes import born, lives, memory
from falaj.inference.report import Report, complain, read_report, sum_of, write_json
from falaj.inference.slots import Table, Worker

PROBLEM = Conflict("The bytes are not those that were signed.").to_dict()


def worker(slot: str, ready: bool = True, generation: str = "g") -> Worker:
    return Worker(slot, generation, ready, 0.0, 0.0)


def report(revision: int, **changes: Any) -> Report:
    told = {"ready": True, "tried": revision, "problem": None, "leaving": False}
    return Report(pid=1, started=0.0, generation="g", revision=revision, **(told | changes))


def test_an_endpoint_is_as_far_as_its_slowest_worker() -> None:
    table = Table({"http": 2}, "g", [worker("http-0"), worker("http-1")])
    found = sum_of(table, {"http-0": report(7), "http-1": report(6)}, None)
    assert (found["ready"], found["revision"], found["tried"], found["settings"]) == (True, 6, 6, "g")


def test_it_is_ready_when_all_are() -> None:
    table = Table({"http": 1, "grpc": 1}, "g", [worker("http-0"), worker("grpc-0", ready=False)])
    found = sum_of(table, {"http-0": report(7), "grpc-0": report(-1, ready=False)}, None)
    assert (found["ready"], found["revision"], found["settings"]) == (False, 7, "")


def test_one_workers_problem_is_the_endpoints() -> None:
    table = Table({"http": 2}, "g", [worker("http-0"), worker("http-1")])
    found = sum_of(table, {"http-0": report(8), "http-1": report(7, tried=8, problem=PROBLEM)}, None)
    assert (found["ready"], found["revision"], found["tried"], found["problem"]) == (True, 7, 8, PROBLEM)


def test_while_settings_change_both_generations_answer_and_it_is_said() -> None:
    table = Table({"http": 1}, "g", [worker("http-0", generation="old"), worker("http-1", ready=False)])
    found = sum_of(table, {"http-0": report(7)}, Conflict("taken"))
    assert (found["ready"], found["settings"]) == (True, "")
    assert found["down"]["error"]["message"] == "taken"


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b"{}", b'{"pid": "x"}', b'{"pid": 1, "started": null}'])
def test_half_a_report_is_none(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "http-0.json").write_bytes(rubbish)
    assert read_report(tmp_path / "http-0.json") is None
    assert read_report(tmp_path / "http-1.json") is None


def test_a_file_that_could_not_be_written_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_json(tmp_path / "taken", {})
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_process_is_known_by_when_it_began(capsys: pytest.CaptureFixture[str]) -> None:
    import os

    began = born(os.getpid())
    assert began is not None
    assert lives(os.getpid(), began)
    assert not lives(os.getpid(), began - 60)
    assert born(2**22 + 1) is None
    assert memory(os.getpid()) > 1 << 20
    assert memory(2**22 + 1) == 0
    complain(Conflict("There are two."))
    assert "conflict: There are two." in capsys.readouterr().err
