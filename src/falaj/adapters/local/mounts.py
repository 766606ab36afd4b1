"""Which disk a folder is on: one of this machine, or one that another machine lends over a network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from falaj.core.errors import InvalidInput
from falaj.core.places import read_host

MOUNTS = Path("/proc/self/mounts")
OWN = frozenset(
    {
        "9p", "apfs", "bcachefs", "btrfs", "devtmpfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuse-overlayfs",
        "fuse.fuse-overlayfs", "fuseblk", "jfs", "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs", "squashfs", "tmpfs", "vfat",
        "virtiofs", "xfs", "zfs",
    }
)  # fmt: skip
"""File systems of a disk, of memory, or of the host of a virtual machine. Any other may lead over a network."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    point: str
    kind: str
    device: str

    @property
    def is_own(self) -> bool:
        return self.kind in OWN

    @property
    def host(self) -> str:
        """Who lends it, as `nas:/export` of NFS, `//nas/share` of SMB and `user@nas:/folder` of SSH say; empty where nothing
        says."""
        device = self.device
        name = device[2:].partition("/")[0] if device.startswith("//") else device.partition(":/")[0]
        if not device.startswith("//") and ":/" not in device:
            return ""
        try:
            return str(read_host(name.rpartition("@")[2]))
        except InvalidInput:
            return ""


def mount_of(path: Path, table: Path = MOUNTS) -> Mount | None:
    """The mount that the path lies on, links followed. None where the system keeps no such table (it is Linux's)."""
    try:
        lines = table.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    real = str(path.resolve())
    found: Mount | None = None
    for line in lines:  # a later mount of the same point lies over the earlier one
        fields = [_ESCAPE.sub(lambda code: chr(int(code[1], 8)), field) for field in line.split(" ")]
        if len(fields) < 3:
            continue
        device, point, kind = fields[:3]
        below = real == point or real.startswith(point.rstrip("/") + "/")
        if below and (found is None or len(point) >= len(found.point)):
            found = Mount(point, kind, device)
    return found
