"""falaj's own stores of blobs keep the contract of the port."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters import open_adapter
from falaj.adapters.local.blobs import FileBlobs
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.config import blobs_options, load
from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from falaj.ports.blobs import Blobs
from falaj.testing.blobs import NEVER, BlobsSuite
from tests.kits.servers import S3, free_port


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


def bucket_client(server: S3) -> Any:
    import boto3

    keys = {"aws_access_key_id": server.key, "aws_secret_access_key": server.secret}
    return boto3.client("s3", endpoint_url=server.endpoint, region_name=server.region, **keys)


def on_s3(endpoint: str, cache: Path, bucket: str = "blobs", timeout_s: float = 10.0) -> Blobs:
    keys = {"key": "env:KEY", "key_secret": "env:SECRET"}
    blobs: Blobs = open_adapter(
        "blobs",
        "s3",
        uri=f"s3://{bucket}/falaj",
        cache=cache,
        secret=lambda _: b"hunter2",
        endpoint=endpoint,
        timeout_s=timeout_s,
        **keys,
    )
    return blobs


class TestS3Blobs(BlobsSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _bucket(self, s3: S3, tmp_path: Path) -> None:
        self.server, self.folder = s3, tmp_path
        self.client = bucket_client(s3)
        self.client.create_bucket(Bucket="blobs")
        for held in self.client.list_objects_v2(Bucket="blobs").get("Contents", []):
            self.client.delete_object(Bucket="blobs", Key=held["Key"])

    def open(self) -> Blobs:
        return on_s3(self.server.endpoint, self.folder / "cache")

    def tamper(self, blobs: Blobs, digest: str, data: bytes) -> None:
        self.client.put_object(Bucket="blobs", Key=f"falaj/{digest[7:9]}/{digest[9:]}", Body=data)

    def test_a_copy_that_was_tampered_with_is_never_handed_out(self) -> None:
        blobs = self.open()
        digest = blobs.put(b"the model")
        path = blobs.path(digest)
        path.write_bytes(b"the mudel")
        assert blobs.path(digest).read_bytes() == b"the model"
        assert self.open().path(digest).read_bytes() == b"the model"

    def test_what_the_store_no_longer_has_is_not_found_though_a_copy_is_there(self) -> None:
        blobs = self.open()
        digest = blobs.put(b"erased")
        blobs.path(digest)
        self.client.delete_object(Bucket="blobs", Key=f"falaj/{digest[7:9]}/{digest[9:]}")
        with pytest.raises(NotFound):
            blobs.path(digest)
        assert not blobs.has(digest)

    def test_many_blocks_come_back(self) -> None:
        data = bytes(range(256)) * (80 << 10)
        blobs = self.open()
        assert self.open().get(blobs.put(data)) == data

    def test_another_process_reads_what_this_one_put(self) -> None:
        digest = self.open().put(b"from here")
        code = (
            "import sys; from pathlib import Path; from falaj.adapters import open_adapter\n"
            f"blobs = open_adapter('blobs', 's3', uri='s3://blobs/falaj', cache=Path({str(self.folder / 'other')!r}),"
            f" secret=lambda _: b'x', endpoint={self.server.endpoint!r}, key='env:A', key_secret='env:B')\n"
            f"print(blobs.get({digest!r}).decode(), blobs.path({digest!r}).read_text(), blobs.put(b'from there'))"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert said[:4] == ["from", "here", "from", "here"]
        assert self.open().get(said[4]) == b"from there"

    def test_the_settings_open_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = {"blobs": "s3", "blobs_uri": "s3://blobs/falaj", "blobs_endpoint": self.server.endpoint}
        keys = {"blobs_key": "env:KEY", "blobs_secret": "env:SECRET"}
        settings = load(self.folder, {**given, **keys}, {})
        blobs = open_adapter("blobs", "s3", **blobs_options(settings, lambda _: b"x"))
        assert blobs.get(blobs.put(b"x")) == b"x"


def test_a_bucket_that_is_not_there_is_not_found(s3: S3, tmp_path: Path) -> None:
    blobs = on_s3(s3.endpoint, tmp_path, "nobucket")
    for ask in (lambda: blobs.put(b"x"), lambda: blobs.get(NEVER)):
        with pytest.raises(NotFound):
            ask()


@pytest.mark.slow
def test_a_store_that_is_gone_is_unavailable_and_tells_no_key(tmp_path: Path) -> None:
    blobs = on_s3(f"http://127.0.0.1:{free_port()}", tmp_path, timeout_s=1.0)
    for ask in (lambda: blobs.put(b"x"), lambda: blobs.get(NEVER), lambda: blobs.path(NEVER), lambda: blobs.has(NEVER)):
        with pytest.raises(Unavailable) as told:
            ask()
        assert "hunter2" not in str(told.value)


@pytest.mark.slow
def test_a_store_that_takes_calls_and_never_answers_is_unavailable_and_no_hang(silent: int, tmp_path: Path) -> None:
    blobs = on_s3(f"http://127.0.0.1:{silent}", tmp_path, timeout_s=1.0)
    with pytest.raises(Unavailable):
        blobs.get(NEVER)


@pytest.fixture
def silent() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield int(server.getsockname()[1])


@pytest.mark.parametrize(
    "options",
    [
        {"uri": "https://bucket/x"},
        {"uri": "s3://key:hunter2@bucket/x"},
        {"uri": "s3://bucket/x", "endpoint": "http://store.example"},
        {"uri": "s3://bucket/x", "endpoint": "ftp://127.0.0.1"},
        {"uri": "s3://bucket/x", "key": "env:KEY"},
        {"uri": "s3://bucket/x", "key": "AKIAhunter2", "key_secret": "hunter2"},
        {"uri": "s3://bucket/x", "endpoind": "https://store.example"},
    ],
)
def test_an_address_that_is_unsafe_or_none_is_refused(options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as told:
        open_adapter("blobs", "s3", cache=tmp_path, secret=lambda _: b"x", **options)
    assert "hunter2" not in str(told.value)


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
