"""What every way of knowing who asks must do. Subclass `IdentitySuite`, give it a `known` fixture, and run it with pytest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from falaj.core.actor import Actor
from falaj.core.errors import Unauthenticated
from falaj.ports.identity import Credential, Identity


@dataclass(frozen=True)
class Known:
    """A way, somebody whom it knows, and how to shut them out."""

    way: Identity
    good: Credential
    actor: Actor
    wrong: Sequence[Credential]
    """Of the form that this way reads, and not good."""
    revoke: Callable[[], None]


class IdentitySuite:
    """The contract of `ports.identity`."""

    @pytest.fixture
    def known(self) -> Known:
        raise NotImplementedError("give the suite a `known` fixture")

    def test_whoever_shows_a_good_credential_is_known_each_time(self, known: Known) -> None:
        assert [known.way.authenticate(known.good) for _ in range(2)] == [known.actor, known.actor]

    def test_a_wrong_one_of_this_form_is_refused_without_a_word_of_it(self, known: Known) -> None:
        for wrong in known.wrong:
            with pytest.raises(Unauthenticated) as caught:
                known.way.authenticate(wrong)
            assert caught.value.hint
            assert not wrong.text or wrong.text not in str(caught.value)

    @pytest.mark.parametrize("text", ["", " ", "x", "Basic YTpi", "\x00", "é" * 50, "a.b", "....", "x" * 100_000])
    def test_a_text_of_no_form_is_nobody(self, known: Known, text: str) -> None:
        try:
            assert known.way.authenticate(Credential(text)) is None
        except Unauthenticated:
            return

    def test_whoever_is_shut_out_is_out_on_the_next_call(self, known: Known) -> None:
        assert known.way.authenticate(known.good) == known.actor
        known.revoke()
        with pytest.raises(Unauthenticated):
            known.way.authenticate(known.good)

    def test_a_credential_is_not_shown_by_accident(self, known: Known) -> None:
        assert not known.good.text or known.good.text not in repr(known.good) + repr(known.way)
