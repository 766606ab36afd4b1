"""Brings the seals of prediction segments into the ledger, so that every single prediction can be proven."""

from __future__ import annotations

from collections.abc import Callable

from falaj.core.codec import decode
from falaj.core.errors import Conflict
from falaj.core.ref import Ref
from falaj.core.segment import Seal
from falaj.ports.predictions import Predictions
from falaj.stages.action import Act, Kernel, action


class Serving:
    def __init__(self, kernel: Kernel, predictions_of: Callable[[str], Predictions]) -> None:
        self.kernel = kernel
        self.predictions_of = predictions_of

    def unsealed(self, endpoint: str) -> list[Seal]:
        """Seals on disk that the ledger does not hold yet, in order."""
        return [seal for seal in self.predictions_of(endpoint).seals() if self.kernel.ledger.get("seal", key_of(seal)) is None]

    def sealed(self, endpoint: str, segment: int) -> Seal | None:
        body = self.kernel.ledger.get("seal", f"{endpoint}/{segment:06d}")
        return decode(Seal, body) if body else None

    @action("predictions.seal")
    def seal(self, act: Act, endpoint: Ref, *, seals: list[Seal]) -> int:
        """Records seals; returns how many were new. Raises Conflict where a segment was sealed before with another content."""
        with act.change() as draft:
            new = 0
            for seal in seals:
                known = draft.get("seal", key_of(seal))
                if known is not None and known["root"] != seal.root:
                    raise Conflict(
                        f"Segment {seal.segment} of {endpoint} was sealed as {known['root']}, now it reads {seal.root}.",
                        "the file was changed after it was sealed: falaj audit verify",
                    )
                if known is None:
                    draft.put("seal", key_of(seal), seal)
                    new += 1
            draft.note(
                segments=[seal.segment for seal in seals],
                rows=sum(seal.rows for seal in seals),
                roots=[seal.root for seal in seals],
            )
        return new


def key_of(seal: Seal) -> str:
    return f"{seal.endpoint}/{seal.segment:06d}"
