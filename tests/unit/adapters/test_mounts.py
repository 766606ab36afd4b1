"""A folder is on this machine's own disk, or on one that somebody lends, as the system's table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from falaj.adapters.local.mounts import mount_of

TABLE = """\
/dev/sda1 / ext4 rw 0 0
nas.example:/export {root}/nfs nfs4 rw 0 0
//files.example/share {root}/smb cifs rw 0 0
user@10.1.2.3:/home {root}/ssh fuse.sshfs rw 0 0
s3fs {root}/bucket fuse.s3fs rw 0 0
tmpfs {root}/nfs/inner tmpfs rw 0 0
bad.example:/x {root}/with\\040space nfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("folder", "kind", "host"),
    [
        ("nfs", "nfs4", "nas.example"),
        ("nfs/deep", "nfs4", "nas.example"),
        ("nfs/inner/x", "tmpfs", ""),
        ("nfsother", "ext4", ""),
        ("smb", "cifs", "files.example"),
        ("ssh", "fuse.sshfs", "10.1.2.3"),
        ("bucket", "fuse.s3fs", ""),
        ("with space", "nfs", "bad.example"),
    ],
)
def test_the_deepest_mount_says_whose_disk_it_is(tmp_path: Path, folder: str, kind: str, host: str) -> None:
    table = tmp_path / "mounts"
    table.write_text(TABLE.replace("{root}", str(tmp_path)))
    found = mount_of(tmp_path / folder, table)
    assert found is not None
    assert (found.kind, found.host, found.is_own) == (kind, host, kind in ("ext4", "tmpfs"))


def test_a_link_is_where_it_leads(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(TABLE.replace("{root}", str(tmp_path)))
    (tmp_path / "nfs").mkdir()
    (tmp_path / "innocent").symlink_to(tmp_path / "nfs")
    found = mount_of(tmp_path / "innocent", table)
    assert found is not None
    assert found.host == "nas.example"


def test_a_system_without_the_table_says_nothing(tmp_path: Path) -> None:
    assert mount_of(tmp_path, tmp_path / "none") is None
