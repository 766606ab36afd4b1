"""Adapters are opened by name, falaj's own and those of other packages; no two packages have one name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from falaj import adapters
from falaj.adapters import open_adapter, open_own
from falaj.adapters.local.blobs import FileBlobs
from falaj.core.errors import Conflict, NotFound

PLACE = "falaj.adapters.local.blobs:FileBlobs"


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package offers a scheme of its own, and one that falaj has."""
    found = tuple(EntryPoint(name, PLACE, "falaj.adapters") for name in ("blobs.theirs", "blobs.file"))
    monkeypatch.setattr(adapters, "_plugins", lambda: found)


@pytest.mark.usefixtures("others")
def test_a_name_that_two_packages_claim_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"blobs\.file"):
        open_adapter("blobs", "file", folder=tmp_path)


@pytest.mark.usefixtures("others")
def test_what_another_package_offers_is_opened(tmp_path: Path) -> None:
    for opened in (open_adapter, open_own):
        assert isinstance(opened("blobs", "theirs", folder=tmp_path), FileBlobs)
        with pytest.raises(NotFound, match="theirz"):
            opened("blobs", "theirz")


def test_what_falaj_has_itself_is_opened_without_a_look_at_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> tuple[EntryPoint, ...]:
        raise AssertionError("it takes a process that is waited for tens of milliseconds")

    monkeypatch.setattr(adapters, "_plugins", look)
    assert isinstance(open_own("blobs", "file", folder=tmp_path), FileBlobs)
