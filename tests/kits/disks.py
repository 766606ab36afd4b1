"""Small and stubborn disks: real file systems of a few megabytes, which fill up or stop taking writes when a test wants it.

They take the right to mount. Without it their tests are skipped, or fail where FALAJ_TEST_REQUIRE names `disks`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class SmallDisk:
    """A tmpfs with `room` for so many bytes, besides what is filled up by a file that can be taken away."""

    folder: Path

    def fill(self, leave: int) -> None:
        """Leaves about so many bytes free, or none where others write meanwhile."""
        free = shutil.disk_usage(self.folder).free
        with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as file:
            file.write(bytes(max(free - leave, 0)))

    def clear(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size: str = "8m") -> Iterator[SmallDisk]:
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size},mode=700", "falaj-test", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "-l", str(folder))


@dataclass
class StubbornDisk:
    """An ext4 in a file. While it is frozen whoever writes to it waits."""

    folder: Path

    def freeze(self, seconds: float) -> subprocess.Popen[bytes]:
        """Thaws by itself, also when the test is gone by then."""
        command = 'fsfreeze -f "$1" && sleep "$2"; fsfreeze -u "$1"'
        return subprocess.Popen(["sh", "-c", command, "sh", str(self.folder), str(seconds)], start_new_session=True)


@contextmanager
def stubborn_disk(folder: Path, image: Path, megabytes: int = 32) -> Iterator[StubbornDisk]:
    for program in ("mkfs.ext4", "fsfreeze"):
        if shutil.which(program) is None:
            _missing(f"There is no {program}: apt-get install e2fsprogs util-linux")
    folder.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    _mount("-o", "loop", str(image), str(folder))
    try:
        folder.chmod(0o700)
        yield StubbornDisk(folder)
    finally:
        _run("umount", "-l", str(folder))


def _mount(*arguments: str) -> None:
    done = _run("mount", *arguments)
    if done.returncode:
        _missing(f"Nothing can be mounted here: {done.stderr.strip()}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _missing(why: str) -> None:
    if "disks" in os.environ.get("FALAJ_TEST_REQUIRE", "").split(","):
        pytest.fail(why)
    pytest.skip(why)
