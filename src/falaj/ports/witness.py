"""The port of witnesses: who keeps watch, on another machine, that a ledger only ever grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Witness(Protocol):
    """Every method may raise Unavailable when the witness does not answer, or not in its form."""

    name: str
    vkey: str
    """Its key's text, which it was named with; what it answers counts only when that key signed it."""

    def add(self, old: int, path: Sequence[bytes], note: str) -> str:
        """Shows it a checkpoint and the proof that leads there from the `old` size; its cosignature lines, not checked.

        Raises Conflict with the fact `size` where it has seen the log at another size, Denied where it refuses.
        """
        ...

    def newest(self, origin: str) -> str:
        """The newest checkpoint of that log that it cosigned, not checked. Raises NotFound where it has seen none."""
        ...
