"""Both vaults keep the contract; the one in a file also holds between processes, and leaves no byte of a destroyed key."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from falaj.adapters.local.vault import CACHED, SqliteVault
from falaj.adapters.memory.vault import MemoryVault
from falaj.core.errors import Bug, Conflict, Denied, FalajError, InvalidInput, Unavailable
from falaj.ports.vault import Vault
from falaj.testing.vault import ABOUT, VaultSuite

PEPPER = bytes(range(32))


def opened(folder: Path) -> SqliteVault:
    return SqliteVault(folder / "vault" / "subjects.db", folder / "keys" / "vault.kek", PEPPER)


class TestMemoryVault(VaultSuite):
    @pytest.fixture
    def vault(self) -> Vault:
        return MemoryVault()


class TestSqliteVault(VaultSuite):
    @pytest.fixture
    def vault(self, tmp_path: Path) -> Vault:
        return opened(tmp_path)


def wrapped(folder: Path) -> dict[str, bytes]:
    db = sqlite3.connect(folder / "vault" / "subjects.db")
    found = {token.hex(): blob for token, blob in db.execute("SELECT token, wrapped FROM keys WHERE erased = 0")}
    db.close()
    return found


def every_byte(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / "vault").iterdir()))


def test_no_byte_of_a_destroyed_key_stays_in_any_file(tmp_path: Path) -> None:
    vault, chance = opened(tmp_path), random.Random(4)
    tokens = [vault.token(str(number)) for number in range(3_000)]
    for start in range(0, 3_000, 250):
        vault.seal(tokens[start : start + 250], [b"x"] * 250, ABOUT)
    before = wrapped(tmp_path)
    assert all(before[token] in every_byte(tmp_path) for token in tokens[:50]), "the search finds what is there"
    gone = chance.sample(tokens, 1_000)
    for start in range(0, 1_000, 100):
        vault.shred(gone[start : start + 100])
        for token in gone[start : start + 20]:  # and comes back under a new key, which goes as well
            vault.admit(token)
            vault.seal([token], [b"y"], ABOUT)
    again = [token for start in range(0, 1_000, 100) for token in gone[start : start + 20]]
    second = {token: blob for token, blob in wrapped(tmp_path).items() if token in again}
    assert len(second) == 200
    vault.shred(again)
    there = every_byte(tmp_path)
    for token in gone:
        for at in range(0, 60, 12):  # not even a piece of it
            assert before[token][at : at + 12] not in there
    for blob in second.values():
        assert blob[12:44] not in there
    assert all(blob in there for token, blob in before.items() if token not in gone)


def test_both_files_are_their_owners_alone(tmp_path: Path) -> None:
    opened(tmp_path).seal(["ab" * 32], [b"x"], ABOUT)
    for path in (tmp_path / "keys" / "vault.kek", *(tmp_path / "vault").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    (tmp_path / "keys" / "vault.kek").chmod(0o644)
    with pytest.raises(Denied, match="Others"):
        opened(tmp_path)


def test_keys_outlast_the_process(tmp_path: Path) -> None:
    first = opened(tmp_path)
    tokens = [first.token("one"), first.token("two")]
    sealed = first.seal(tokens, [b"1", b"2"], ABOUT)
    first.shred(tokens[:1])
    first.close()
    second = opened(tmp_path)
    assert second.open(tokens, sealed, ABOUT) == [None, b"2"]
    assert second.erased() == frozenset(tokens[:1])
    assert second.token("one") == tokens[0]


def test_what_one_handle_destroys_opens_nothing_in_another_from_the_next_call_on(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    token = one.token("one")
    sealed = one.seal([token], [b"x"], ABOUT)
    assert other.open([token], sealed, ABOUT) == [b"x"]  # and holds the key from here on
    seen = other.generation()
    one.shred([token])
    assert other.open([token], sealed, ABOUT) == [None]
    assert other.generation() != seen
    with pytest.raises(Denied):
        other.seal([token], [b"y"], ABOUT)


def test_two_that_see_a_person_first_at_once_agree_on_the_key(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    token = one.token("one")
    pairs = [vault.seal([token], [b"x"], ABOUT) for vault in (one, other)]
    assert [one.open([token], sealed, ABOUT) for sealed in pairs] == [[b"x"], [b"x"]]
    assert one.count() == other.count() == 1


@pytest.mark.slow
def test_processes_seal_and_shred_at_once_and_no_key_comes_back(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.contract.test_vault import ABOUT, opened
from falaj.core.errors import Denied
vault = opened(Path({str(tmp_path)!r}))
for turn in range(60):
    for number in range(40):
        try:
            vault.seal([vault.token(str(number))], [b"x"], ABOUT)
        except Denied:
            pass
print(vault.count())
"""
    workers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    gone = [vault.token(str(number)) for number in range(0, 40, 2)]
    for token in gone:
        vault.shred([token])
    assert [worker.wait(120) for worker in workers] == [0, 0]
    for worker in workers:
        worker.communicate()
    assert vault.erased() == frozenset(gone)
    assert vault.count() == 20
    assert set(wrapped(tmp_path)) == {vault.token(str(number)) for number in range(1, 40, 2)}


def test_a_key_wrapped_by_another_project_is_refused(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    vault.seal([vault.token("one")], [b"x"], ABOUT)
    vault.close()
    (tmp_path / "keys" / "vault.kek").write_bytes(os.urandom(32))
    again = opened(tmp_path)
    with pytest.raises(Conflict, match=r"vault\.kek|wrapped"):
        again.seal([again.token("one")], [b"y"], ABOUT)


def test_a_vault_that_lost_its_wrapping_key_makes_no_second_one(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    token = vault.token("one")
    sealed = vault.seal([token], [b"x"], ABOUT)
    vault.close()
    kek = tmp_path / "keys" / "vault.kek"
    kept = kek.read_bytes()
    kek.unlink()
    # Whoever was sealed under a new key would be lost as soon as the old one is brought back from its backup.
    with pytest.raises(Conflict, match=r"lost its key .*vault\.kek"):
        opened(tmp_path)
    assert not kek.exists()
    kek.write_bytes(kept)
    kek.chmod(0o600)
    assert opened(tmp_path).open([token], sealed, ABOUT) == [b"x"]


def test_whoever_opens_it_while_another_makes_it_finds_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two questions that the first asks, the second is through."""
    connect, made = sqlite3.connect, list[SqliteVault]()

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> Any:
            found = super().execute(sql, *args)
            if made or not sql.startswith("PRAGMA"):
                return found
            answer = found.fetchall()  # nothing of the file is locked any more
            monkeypatch.setattr(sqlite3, "connect", connect)
            made.append(opened(tmp_path))
            return SimpleNamespace(fetchone=lambda: answer[0])

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **given: connect(*args, **given, factory=Slow))
    late = opened(tmp_path)
    assert made
    assert late.seal([late.token("one")], [b"x"], ABOUT)


def test_turning_to_the_log_of_writes_waits_for_another_that_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, refused = sqlite3.connect, list[str]()

    class Busy(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> Any:
            if "journal_mode = WAL" in sql and not refused:
                refused.append(sql)
                other = connect(tmp_path / "vault" / "subjects.db", isolation_level=None)
                other.execute("BEGIN EXCLUSIVE")
                try:
                    return super().execute(sql, *args)
                finally:
                    other.close()
            return super().execute(sql, *args)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **given: connect(*args, **given | {"timeout": 0.3}, factory=Busy))
    vault = opened(tmp_path)
    assert refused
    assert vault.seal([vault.token("one")], [b"x"], ABOUT)


def test_more_people_than_are_held_at_once(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    tokens = [f"{number:064x}" for number in range(CACHED + 5_000)]
    sealed = vault.seal(tokens, [b"x"] * len(tokens), ABOUT)
    assert len(vault._held) == CACHED
    assert vault.open(tokens, sealed, ABOUT) == [b"x"] * len(tokens)


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    db = sqlite3.connect(tmp_path / "vault" / "subjects.db")
    db.execute("CREATE TABLE theirs(x)")
    db.commit()
    db.close()
    with pytest.raises(InvalidInput, match="another program"):
        opened(tmp_path)
    (tmp_path / "vault" / "subjects.db").write_bytes(b"no database at all, however long it is" * 40)
    with pytest.raises(InvalidInput, match="no vault"):
        opened(tmp_path)


def test_a_reader_that_hangs_is_told_and_shredding_again_empties_the_log(tmp_path: Path) -> None:
    vault = SqliteVault(tmp_path / "vault" / "subjects.db", tmp_path / "keys" / "vault.kek", PEPPER, busy_seconds=0.2)
    token = vault.token("one")
    sealed = vault.seal([token], [b"x"], ABOUT)
    old = wrapped(tmp_path)[token]
    reader = sqlite3.connect(tmp_path / "vault" / "subjects.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM keys").fetchone()
    with pytest.raises(Unavailable, match="could not be emptied"):
        vault.shred([token])
    assert vault.open([token], sealed, ABOUT) == [None]
    reader.close()
    assert vault.shred([token]) == 0
    assert old not in every_byte(tmp_path)


def test_a_closed_vault_and_one_carried_over_a_fork_say_so(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    vault._pid -= 1
    with pytest.raises(Bug, match="fork"):
        vault.seal(["ab" * 32], [b"x"], ABOUT)
    vault._pid += 1
    vault.close()
    with pytest.raises(FalajError):
        vault.seal(["ab" * 32], [b"x"], ABOUT)
