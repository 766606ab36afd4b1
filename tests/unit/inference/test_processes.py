"""What a process may use of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from falaj.inference import processes


@pytest.mark.parametrize(
    ("share", "cores"),
    [("max 100000", 4), ("100000 100000", 1), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 4), ("", 4)],
)
def test_a_container_has_no_more_cores_than_its_share_of_time(
    share: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(share)
    monkeypatch.setattr(processes, "SHARE", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2, 3}, raising=False)
    processes.cores.cache_clear()
    try:
        assert processes.cores() == cores
    finally:
        processes.cores.cache_clear()
