from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from falaj.adapters.local.folder import read_json, write_json


def test_a_file_that_was_replaced_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power failure brings the file of before back, and with it a key that was revoked."""
    synced, fsync = list[bool](), os.fsync

    def seen(handle: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", seen)
    write_json(tmp_path / "keys.json", {"a": 1})
    assert synced == [False, True]
    write_json(tmp_path / "keys.json", {"a": 1})
    assert synced == [False, True], "nothing would change"
    assert read_json(tmp_path / "keys.json") == {"a": 1}
