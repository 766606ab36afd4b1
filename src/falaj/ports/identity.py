"""Identity: one way to know who asks: by key, by token, by certificate, by the company's own login."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from falaj.core.actor import Actor


@dataclass(frozen=True, slots=True)
class Credential:
    """What came with a call."""

    text: str = field(default="", repr=False)
    """A key or a token, as behind `Authorization: Bearer`. Never shown, never kept."""
    certificate: str = ""
    """The identity in the caller's certificate, which was checked when the connection was made: `spiffe://…` or `cn:…`."""


class Identity(Protocol):
    """Each way reads credentials of one form."""

    def authenticate(self, credential: Credential) -> Actor | None:
        """Who that is; None for a credential of another form, which the next way is asked about then.

        Raises Unauthenticated for one of this form that is wrong, over or revoked, without a word of what it says; Unavailable
        where whoever vouches for it could not be asked and nothing that is kept is fresh enough; MissingDependency.
        """
        ...
