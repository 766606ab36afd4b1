"""Where a secret is, written in place of the secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from falaj.adapters.local.reference import absolute, address, online_options, secret
from falaj.core.errors import InvalidInput


def test_a_reference_leads_to_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE", "rediss://:hush@store.example:6380/0")
    (tmp_path / "url").write_text("redis://:quiet@store.example/0\n")
    assert address("online_url", "env:STORE") == "rediss://:hush@store.example:6380/0"
    assert address("online_url", f"file:{tmp_path}/url") == "redis://:quiet@store.example/0"
    assert secret("") is None


@pytest.mark.parametrize("given", ["redis://127.0.0.1:6379/0", "redis://localhost/1", "redis://[::1]:6379/0"])
def test_an_address_of_this_machine_without_a_password_needs_no_reference(given: str) -> None:
    assert address("online_url", given) == given


@pytest.mark.parametrize("given", [
    "redis://:hush@127.0.0.1/0", "redis://store.example/0", "redis://user:hush@store.example/0", "hush", "redis://[hush",
])  # fmt: skip
def test_any_other_address_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(InvalidInput, match="online_url") as told:
        address("online_url", given)
    assert "hush" not in str(told.value)


@pytest.mark.parametrize("given", ["env:NOT_SET_ANYWHERE", "file:/no/such/file"])
def test_a_reference_that_leads_nowhere_says_so(given: str) -> None:
    with pytest.raises(InvalidInput, match="leads nowhere"):
        address("online_url", given)


def test_each_store_is_opened_with_what_it_needs() -> None:
    here = Path("/state/online.lmdb")
    assert online_options("lmdb", folder=here, url="", project="p") == {"folder": here}
    assert online_options("memory", folder=here, url="", project="p") == {}
    url = "redis://127.0.0.1/0"
    assert online_options("redis", folder=here, url=url, project="p") == {"url": url, "project": "p"}
    with pytest.raises(InvalidInput, match="needs an address"):
        online_options("postgres", folder=here, url="", project="p")


def test_a_reference_to_a_file_stays_right_in_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("file:keys/url") == f"file:{tmp_path}/keys/url"
    assert absolute("env:STORE") == "env:STORE"
