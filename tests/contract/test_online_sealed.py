"""A store whose rows are sealed keeps the whole contract, holds no name and no value in clear, and forgets with the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from falaj.adapters.local.online import LmdbOnline
from falaj.adapters.local.vault import SqliteVault
from falaj.adapters.memory.online import MemoryOnline
from falaj.adapters.memory.vault import MemoryVault
from falaj.adapters.sealing.online import SealedOnline
from falaj.core.entity import joined_key
from falaj.core.errors import Conflict
from falaj.ports.online import Online, Stored
from falaj.testing.online import OnlineSuite
from tests.kits.clinic import emirates_id, everything


def whole(_view: str) -> tuple[int, int]:
    return 0, 1


class TestSealedMemory(OnlineSuite):
    @pytest.fixture
    def online(self) -> Online:
        vault = MemoryVault()
        return SealedOnline(MemoryOnline(), whole, lambda: vault)


class TestSealedLmdb(OnlineSuite):
    @pytest.fixture
    def online(self, tmp_path: Path) -> Iterator[Online]:
        vault = MemoryVault()
        opened = SealedOnline(LmdbOnline(tmp_path / "online.lmdb", map_size=1 << 26), whole, lambda: vault)
        yield opened
        opened.close()


class TestViewsAboutNobody(OnlineSuite):
    @pytest.fixture
    def online(self) -> Online:
        def never() -> MemoryVault:
            raise AssertionError("the vault was opened")

        return SealedOnline(MemoryOnline(), lambda _view: None, never)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[SealedOnline, LmdbOnline, SqliteVault]]:
    inner = LmdbOnline(tmp_path / "online.lmdb", map_size=1 << 24)
    vault = SqliteVault(tmp_path / "vault" / "subjects.db", tmp_path / "keys" / "vault.kek", b"p" * 32)
    yield SealedOnline(inner, {"patients": (0, 1), "stays": (1, 2)}.get, lambda: vault), inner, vault
    inner.close()
    vault.close()


Parts = tuple[SealedOnline, LmdbOnline, SqliteVault]


def test_no_name_and_no_value_is_in_the_file(parts: Parts, tmp_path: Path) -> None:
    online, _, _ = parts
    online.put("patients", {emirates_id(n): Stored(n, ("diabetic", 7.25)) for n in range(50)}, "m1")
    online.put("wards", {"heart": Stored(1, ("plain text",))})
    there = everything(tmp_path)
    assert not any(emirates_id(n) in there for n in range(50))
    assert "diabetic" not in there
    assert "plain text" in there, "the search finds what lies in clear"
    assert online.get([("patients", emirates_id(7)), ("wards", "heart")]) == [
        Stored(7, ("diabetic", 7.25)), Stored(1, ("plain text",)),
    ]  # fmt: skip
    assert online.mark("patients") == "m1"


def test_a_destroyed_key_is_a_missing_row_and_rows_of_the_erased_are_not_put(parts: Parts) -> None:
    online, _, vault = parts
    online.put("patients", {emirates_id(n): Stored(n, (1.0,)) for n in range(3)})
    vault.shred([vault.token(emirates_id(1))])
    asked = [("patients", emirates_id(n)) for n in range(3)]
    assert online.get(asked) == [Stored(0, (1.0,)), None, Stored(2, (1.0,))]
    assert online.put("patients", {emirates_id(n): Stored(9, (2.0,)) for n in range(3)}) == 2
    assert online.get(asked)[1] is None
    assert online.held("patients", emirates_id(1))[0] is not None, "sealed bytes are left"
    assert [online.remove("patients", [emirates_id(1)]), online.remove("patients", [emirates_id(1)])] == [1, 0]
    assert online.held("patients", emirates_id(1))[0] is None
    vault.admit(vault.token(emirates_id(1)))
    assert online.get(asked)[1] is None
    assert online.put("patients", {emirates_id(1): Stored(10, (3.0,))}) == 1
    assert online.get(asked)[1] == Stored(10, (3.0,))


def test_of_a_key_with_several_parts_the_persons_counts(parts: Parts, tmp_path: Path) -> None:
    online, _, vault = parts
    keys = [str(joined_key([ward, emirates_id(n)])) for ward in ("he|art", "eyes") for n in range(2)]
    online.put("stays", {key: Stored(1, (float(place),)) for place, key in enumerate(keys)})
    assert [row and row.values[0] for row in online.get([("stays", key) for key in keys])] == [0.0, 1.0, 2.0, 3.0]
    assert emirates_id(0) not in everything(tmp_path)
    vault.shred([vault.token(emirates_id(0))])
    assert [row and row.values[0] for row in online.get([("stays", key) for key in keys])] == [None, 1.0, None, 3.0]


def test_a_view_that_was_filled_in_clear_is_emptied_and_filled_anew(parts: Parts) -> None:
    online, inner, _ = parts
    inner.put("patients", {emirates_id(1): Stored(1, (1.0,))}, "m1")
    assert online.mark("patients") is None
    assert online.held("patients", emirates_id(1)) == (Stored(1, (1.0,)), True)
    online.put("patients", {emirates_id(2): Stored(2, (2.0,))}, "m2")
    assert inner.get([("patients", emirates_id(1))]) == [None]
    assert (online.count("patients"), online.mark("patients")) == (1, "m2")
    plain = SealedOnline(inner, lambda _view: None, lambda: parts[2])
    assert plain.mark("patients") is None, "and the other way round"


def test_a_row_that_is_no_sealed_one_is_told(parts: Parts) -> None:
    online, inner, vault = parts
    online.put("patients", {"x": Stored(0, (1.0,))})
    for values in ((1.0, 2.0), ("no base64",), (3,)):
        inner.put("patients", {vault.token("x"): Stored(1, values)})
        with pytest.raises(Conflict):
            online.get([("patients", "x")])


def test_rows_of_whoever_is_left_out_are_read_as_if_there_were_none_and_are_there_again_afterwards(parts: Parts) -> None:
    online, inner, vault = parts
    out = {vault.token(emirates_id(1))}
    online.put("patients", {emirates_id(n): Stored(n, (1.0,)) for n in range(2)})
    online.put("stays", {str(joined_key(["eyes", emirates_id(n)])): Stored(n, (2.0,)) for n in range(2)})
    asked = [(view, key) for n in range(2) for view, key in (("patients", emirates_id(n)), ("stays", f"eyes|{emirates_id(n)}"))]
    reader = SealedOnline(inner, {"patients": (0, 1), "stays": (1, 2)}.get, lambda: vault, without=lambda token: token in out)
    assert reader.get(asked) == [Stored(0, (1.0,)), Stored(0, (2.0,)), None, None]
    out.clear()
    assert reader.get(asked) == online.get(asked)
