"""What every vault must do. Subclass `VaultSuite`, give it a `vault` fixture, and run it with pytest."""

from __future__ import annotations

import threading

import pytest

from falaj.core.errors import Conflict, Denied, InvalidInput
from falaj.ports.vault import Vault

ABOUT = b"clinic|dataset|visits"


class VaultSuite:
    """The contract of `ports.vault`."""

    @pytest.fixture
    def vault(self) -> Vault:
        raise NotImplementedError("give the suite a `vault` fixture")

    def test_what_is_sealed_is_opened_in_order(self, vault: Vault) -> None:
        tokens = [vault.token(name) for name in ("one", "two", "one", "three")]
        plain = [b"a", b"", b"c" * 10_000, "د".encode()]
        sealed = vault.seal(tokens, plain, ABOUT)
        assert vault.open(tokens, sealed, ABOUT) == plain
        assert vault.count() == 3

    def test_nothing_is_nothing(self, vault: Vault) -> None:
        assert vault.seal([], [], ABOUT) == []
        assert vault.open([], [], ABOUT) == []
        assert vault.shred([]) == 0
        assert (vault.count(), vault.erased()) == (0, frozenset())

    def test_a_token_is_the_same_each_time_and_tells_nothing(self, vault: Vault) -> None:
        token = vault.token("784-1990-1234567-1")
        assert token == vault.token("784-1990-1234567-1") != vault.token("784-1990-1234567-2")
        assert len(bytes.fromhex(token)) == 32
        assert "784" not in bytes.fromhex(token).decode("latin-1")
        assert vault.count() == 0, "asking for a token makes no key"

    def test_the_same_text_is_sealed_differently_each_time(self, vault: Vault) -> None:
        token = vault.token("one")
        assert len({*vault.seal([token] * 50, [b"the same"] * 50, ABOUT)}) == 50

    def test_a_changed_byte_is_refused(self, vault: Vault) -> None:
        token = vault.token("one")
        (sealed,) = vault.seal([token], [b"blood group 0"], ABOUT)
        for place in range(len(sealed)):
            changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
            with pytest.raises(Conflict):
                vault.open([token], [changed], ABOUT)
        for length in (0, 1, 12, len(sealed) - 1):
            with pytest.raises(Conflict):
                vault.open([token], [sealed[:length]], ABOUT)

    def test_what_is_about_one_place_opens_in_no_other(self, vault: Vault) -> None:
        token = vault.token("one")
        (sealed,) = vault.seal([token], [b"x"], ABOUT)
        with pytest.raises(Conflict):
            vault.open([token], [sealed], b"clinic|dataset|other")

    def test_one_person_does_not_open_what_is_anothers(self, vault: Vault) -> None:
        one, other = vault.token("one"), vault.token("other")
        (sealed,) = vault.seal([one], [b"x"], ABOUT)
        vault.seal([other], [b"y"], ABOUT)
        with pytest.raises(Conflict):
            vault.open([other], [sealed], ABOUT)

    def test_a_shredded_key_opens_nothing_and_the_others_do(self, vault: Vault) -> None:
        tokens = [vault.token(name) for name in ("one", "two")]
        sealed = vault.seal(tokens * 3, [b"1", b"2"] * 3, ABOUT)
        before = vault.generation()
        assert vault.shred([tokens[0]]) == 1
        assert vault.open(tokens * 3, sealed, ABOUT) == [None, b"2"] * 3
        assert (vault.count(), vault.erased()) == (1, frozenset({tokens[0]}))
        assert vault.generation() != before

    def test_shredding_again_changes_nothing(self, vault: Vault) -> None:
        token = vault.token("one")
        vault.seal([token], [b"x"], ABOUT)
        assert [vault.shred([token, token]), vault.shred([token])] == [1, 0]
        assert vault.erased() == frozenset({token})

    def test_an_erased_person_gets_no_key_by_itself(self, vault: Vault) -> None:
        one, other = vault.token("one"), vault.token("other")
        vault.shred([one])  # somebody may be erased who was never seen
        with pytest.raises(Denied):
            vault.seal([other, one], [b"x", b"y"], ABOUT)
        assert vault.erased() == frozenset({one})

    def test_who_is_admitted_again_has_a_new_key_and_what_was_before_stays_gone(self, vault: Vault) -> None:
        token = vault.token("one")
        (old,) = vault.seal([token], [b"before"], ABOUT)
        vault.shred([token])
        vault.admit(token)
        assert vault.erased() == frozenset()
        (new,) = vault.seal([token], [b"after"], ABOUT)
        assert vault.open([token, token], [old, new], ABOUT) == [None, b"after"]
        assert vault.count() == 1
        assert vault.shred([token]) == 1
        assert vault.open([token, token], [old, new], ABOUT) == [None, None]

    def test_who_was_never_erased_is_admitted_without_effect(self, vault: Vault) -> None:
        token = vault.token("one")
        (sealed,) = vault.seal([token], [b"x"], ABOUT)
        vault.admit(token)
        vault.admit(vault.token("nobody"))
        assert vault.open([token], [sealed], ABOUT) == [b"x"]

    def test_who_has_no_key_has_nothing_to_read(self, vault: Vault) -> None:
        one, other = vault.token("one"), vault.token("other")
        (sealed,) = vault.seal([one], [b"x"], ABOUT)
        assert vault.open([other], [sealed], ABOUT) == [None]

    def test_what_is_no_token_is_refused(self, vault: Vault) -> None:
        for wrong in ("", "ab", "x" * 64, "ab" * 33):
            with pytest.raises(InvalidInput):
                vault.seal([wrong], [b"x"], ABOUT)
            with pytest.raises(InvalidInput):
                vault.shred([wrong])

    def test_texts_and_tokens_come_in_equal_numbers(self, vault: Vault) -> None:
        with pytest.raises(ValueError, match="zip"):
            vault.seal([vault.token("one")], [b"x", b"y"], ABOUT)

    def test_many_threads_seal_for_the_same_people(self, vault: Vault) -> None:
        tokens = [vault.token(str(number)) for number in range(20)]
        found: list[list[bytes | None]] = []

        def work() -> None:
            sealed = vault.seal(tokens * 10, [token.encode() for token in tokens * 10], ABOUT)
            found.append(vault.open(tokens * 10, sealed, ABOUT))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[token.encode() for token in tokens * 10]] * 6
        assert vault.count() == 20
