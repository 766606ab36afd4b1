"""Replay: whoever was erased stays erased, also where an older copy of the vault was brought back from a backup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.ref import Ref
from falaj.ports.vault import Vault
from falaj.stages.action import Act, Kernel, action
from falaj.stages.privacy import approvals
from falaj.stages.privacy.consent import TOKEN

Proven = Callable[[Mapping[str, Any]], tuple[int, str]]
MOST_TOKENS = 200
"""So many people stand in one event."""


class Replay:
    """The ledger remembers who was erased, the vault as well; where the two differ, erased wins."""

    def __init__(self, kernel: Kernel, vault: Vault, proven: Proven | None = None) -> None:
        """`proven`: the event and the token of a receipt of an erasure that was signed here; raises for any other."""
        self.kernel = kernel
        self.vault = vault
        self.proven = proven

    def returned(self) -> list[str]:
        """Who was erased as the ledger has it, and is not as the vault has it."""
        wanted = {key for key, _ in self.kernel.ledger.find("erased")}
        return sorted(wanted - self.vault.erased()) if wanted else []

    @action("subject.replay")
    def replay(self, act: Act, subject: Ref, *, tokens: Sequence[Any], receipt: Mapping[str, Any] | None = None) -> int:
        """Destroys their keys once more, before anything is read with them. How many keys there were.

        Only of people who were erased: as the ledger or the vault has it, or, where both are older than the erasure, as the
        receipt proves. A first erasure has its request, its approvals, its holds and its floors, and this is no way around them.

        Raises InvalidInput for what is no token, for more than 200 at once and for somebody who was not erased.
        """
        shown = self._shown(receipt) if receipt is not None else ""
        tokens = [*tokens, shown] if shown and shown not in tokens else list(tokens)
        if len(tokens) > MOST_TOKENS or not all(isinstance(token, str) and TOKEN.fullmatch(token) for token in tokens):
            raise InvalidInput(
                f"A token has 64 hexadecimal digits, and at most {MOST_TOKENS} are taken at once.", "take them from receipts."
            )
        strange = {token for token in tokens if token != shown and self.kernel.ledger.get("erased", token) is None}
        strange -= self.vault.erased() if strange else frozenset()
        if strange:
            raise InvalidInput(
                f"{len(strange)} of these people were not erased, as far as ledger and vault know.",
                "falaj subject replay --receipt … shows that somebody was; falaj subject erase erases.",
            )
        gone = self.vault.shred(tokens)
        with act.change() as draft:
            for token in tokens:
                if draft.get("erased", token) is None:
                    draft.put("erased", token, {"token": token, "request": "", "at": act.now})
            draft.note(people=len(tokens), keys=gone, tokens=[token[:16] for token in tokens])
        return gone

    def _shown(self, receipt: Mapping[str, Any]) -> str:
        """Whose erasure it proves, unless the person was admitted again since."""
        if self.proven is None:
            raise InvalidInput("No receipt can be checked here.", "give tokens.")
        seq, token = self.proven(receipt)
        again = self.kernel.ledger.events(verb="subject.admit", subject=Ref("subject", token))
        if any(event.seq > seq for event in again):
            raise InvalidInput("That person was taken in again after this receipt.", "falaj subject erase erases.")
        return token

    @action("subject.admit")
    def admit(self, act: Act, subject: Ref, *, reason: str) -> None:
        """Takes an erased person in again, under a new key; what was sealed before stays gone. Raises NotFound."""
        with act.change() as draft:
            if draft.get("erased", subject.name) is None:
                raise NotFound("That person was not erased.", "falaj request list")
            draft.remove("erased", subject.name)
            draft.note(reason=approvals.words(reason))
        # After the event: where this is cut short the person is still refused, and who asks again is heard.
        self.vault.admit(subject.name)
