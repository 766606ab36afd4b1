"""Killed with -9 while a load of many parts comes in: after the next try everything is as if nothing had happened."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("polars")

from tests.crash.ingest_kill import contracts_in, kept, load, play


@pytest.mark.slow
def test_a_killed_load_is_resumed_to_the_same_digests(tmp_path: Path) -> None:
    seen = play(6, tmp_path)
    assert seen.kills >= 6
    assert (seen.half_visible, seen.differing, seen.left) == (0, 0, 0)


def child(folder: Path, before: str = "") -> subprocess.Popen[str]:
    code = f"{before}\nfrom pathlib import Path\nfrom tests.crash.ingest_kill import load\nload(Path({str(folder)!r}))\n"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [4_000, 60_000])
def test_a_disk_that_refuses_to_write_on_leaves_nothing_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    """No file may grow beyond the limit, as the system itself enforces it: the drafts fail, or the blobs do."""
    load(tmp_path / "calm")
    no_more = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    contracts_in(tmp_path / "full").kernel.ledger.close()  # the ledger's own file is there and has grown already
    run = child(tmp_path / "full", no_more)
    _, error = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "falaj.core.errors.Unavailable" in error
    assert not list((tmp_path / "full" / "drafts").glob("*"))
    assert kept(tmp_path / "full")[:-2] == []
    load(tmp_path / "full")
    assert kept(tmp_path / "full") == kept(tmp_path / "calm")


@pytest.mark.slow
def test_a_small_file_system_that_is_full_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = [str(shutil.which("mount")), "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(small)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system of its own")
    try:
        run = child(small / "full")
        _, error = run.communicate(timeout=120)
        assert run.returncode != 0
        assert "falaj.core.errors.Unavailable" in error
        assert "space" in error
        shutil.copytree(small / "full", tmp_path / "roomy")
    finally:
        subprocess.run([str(shutil.which("umount")), str(small)], check=True)
    load(tmp_path / "roomy")
    load(tmp_path / "calm")
    assert kept(tmp_path / "roomy") == kept(tmp_path / "calm")


@pytest.mark.slow
def test_of_two_processes_that_load_at_once_one_gives_way_and_nothing_is_there_twice(tmp_path: Path) -> None:
    runs = [child(tmp_path / "both"), child(tmp_path / "both")]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert all(run.returncode == 0 or "taken in by somebody else" in error for run, error in zip(runs, errors, strict=True))
    load(tmp_path / "both")
    load(tmp_path / "calm")
    assert kept(tmp_path / "both") == kept(tmp_path / "calm")
