"""falaj's own stores of blobs keep the contract of the port."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from falaj.adapters.local.blobs import FileBlobs
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.core.errors import Conflict, InvalidInput
from falaj.ports.blobs import Blobs
from falaj.testing.blobs import BlobsSuite


class TestMemoryBlobs(BlobsSuite):
    __test__ = True

    def open(self) -> Blobs:
        return MemoryBlobs()

    def tamper(self, blobs: Blobs, digest: str, data: bytes) -> None:
        assert isinstance(blobs, MemoryBlobs)
        blobs._held[digest] = data


class TestFileBlobs(BlobsSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "blobs"

    def open(self) -> Blobs:
        return FileBlobs(self.folder)

    def tamper(self, blobs: Blobs, digest: str, data: bytes) -> None:
        (self.folder / digest[7:9] / digest[9:]).write_bytes(data)


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    path = blobs.path(blobs.put(b"x"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700


def test_no_drafts_are_left_behind(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = blobs.put(b"x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [blobs.path(digest)]


def test_a_file_that_is_changed_and_dated_back_is_seen(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = blobs.put(b"the model")
    path = blobs.path(digest)
    before = path.stat()
    path.write_bytes(b"the mudel")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Conflict):
        blobs.path(digest)


def test_a_folder_that_cannot_be_made_is_invalid_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput):
        FileBlobs(tmp_path / "file")
