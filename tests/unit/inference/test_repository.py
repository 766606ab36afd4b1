"""Taking a model out of service and back: written down first, obeyed by everybody, and never a way in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, NotFound, Unavailable
from falaj.inference.log import PredictionLog
from falaj.inference.repository import Repository

NOW = datetime(2013, 5, 1, tzinfo=UTC)
OPS = Actor("ops", "person", ("operator",))


def serving(*versions: str) -> Any:
    arms = [SimpleNamespace(version=version, arm=SimpleNamespace(model=f"model/delay@{version}")) for version in versions]
    return SimpleNamespace(name="delay", arms=tuple(arms))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    found = PredictionLog(tmp_path / "segments")
    yield found
    found.close()


@pytest.fixture
def repository(log: PredictionLog) -> Repository:
    return Repository(log, lambda: NOW)


def records(log: PredictionLog) -> list[Any]:
    return [orjson.loads(line) for path in log.folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_every_version_is_listed_with_its_state(repository: Repository) -> None:
    assert repository.index(None) == []
    assert [(one["version"], one["state"]) for one in repository.index(serving("2", "1"))] == [("1", "READY"), ("2", "READY")]
    repository.unload(serving("1"), "delay", {}, OPS)
    [one] = repository.index(serving("1"))
    assert one["state"] == "UNAVAILABLE"
    assert "by ops at 2013-05-01" in one["reason"]
    assert repository.index(serving("1"), only_ready=True) == []


def test_another_worker_obeys_at_once_and_so_does_one_that_starts_later(repository: Repository, log: PredictionLog) -> None:
    other = Repository(log, lambda: NOW)
    assert other.answers("delay")
    repository.unload(serving("1"), "delay", {"unload_dependents": True}, OPS)
    assert not other.answers("delay")
    assert not Repository(log, lambda: NOW).answers("delay")
    other.load(serving("1"), "delay", {}, OPS)
    assert repository.answers("delay")


def test_both_are_in_the_log_with_who_did_it(repository: Repository, log: PredictionLog) -> None:
    repository.unload(serving("1", "2"), "delay", {}, OPS)
    repository.load(serving("1", "2"), "delay", {}, OPS)
    assert [(r["kind"], r["operation"], r["by"], r["models"]) for r in records(log)] == [
        ("operation", "unload", "ops", ["model/delay@1", "model/delay@2"]),
        ("operation", "load", "ops", ["model/delay@1", "model/delay@2"]),
    ]


def test_what_cannot_be_written_down_is_not_done(tmp_path: Path) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    log = PredictionLog(tmp_path / "segments", write=full)
    repository = Repository(log, lambda: NOW)
    with pytest.raises(Unavailable):
        repository.unload(serving("1"), "delay", {}, OPS)
    assert repository.answers("delay")
    log.close()


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"file:1/a": b"x"}, {"path": "/etc"}, {"unload_dependents": "yes"}])
def test_nothing_is_taken_from_a_caller(repository: Repository, log: PredictionLog, parameters: Any) -> None:
    for operation in (repository.load, repository.unload):
        with pytest.raises(InvalidInput, match="registry alone"):
            operation(serving("1"), "delay", parameters, OPS)
    with pytest.raises(NotFound):
        repository.unload(serving("1"), "../delay", {}, OPS)
    with pytest.raises(Unavailable):
        repository.unload(None, "delay", {}, OPS)
    assert records(log) == []


def test_a_file_that_cannot_be_read_is_obeyed(repository: Repository, log: PredictionLog) -> None:
    (log.folder.parent / "unloaded.json").write_text("[")
    assert not repository.answers("delay")
    repository.load(serving("1"), "delay", {}, OPS)
    assert repository.answers("delay")


def test_what_the_control_plane_took_out_of_use_stays_so_whatever_is_loaded_here(repository: Repository) -> None:
    repository.obey({"by": "anna", "at": "2013-05-01T00:00:00Z", "reason": "it harms people"})
    assert not repository.answers("delay")
    [one] = repository.index(serving("1"))
    assert (one["state"], "anna" in one["reason"]) == ("UNAVAILABLE", False)
    with pytest.raises(Unavailable, match="out of use at 2013-05-01"):
        repository.load(serving("1"), "delay", {}, OPS)
    repository.obey({})
    assert repository.answers("delay")


def test_a_model_that_was_taken_out_here_stays_out_when_the_endpoint_is_revived(repository: Repository) -> None:
    repository.unload(serving("1"), "delay", {}, OPS)
    repository.obey({"at": "2013-05-01T00:00:00Z"})
    repository.obey({})
    assert not repository.answers("delay")
