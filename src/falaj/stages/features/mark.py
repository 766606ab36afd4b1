"""Marks: how far the online store has come with a view, kept in the store itself, in the same step as the rows.

Whoever starts again reads the mark and goes on from there. It names the definition that the rows were made with, so rows of
another definition are told apart from those of this one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from falaj.core.codec import canonical, decode, encode
from falaj.core.errors import FalajError
from falaj.stages.features.spec import AnyView

_TELLS_NOTHING = frozenset({"description", "descriptions", "owner", "tags"})
"""What may change in a view's declaration without changing a row."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the rows of a view in the online store are made from."""

    definition: str
    read_from: datetime | None
    """Whoever knows nothing yet must read what became known after this; None is from the beginning."""
    until: datetime | None
    """Everything that became known by then is in; None while the first filling is under way."""


def definition(view: AnyView) -> str:
    """A digest of all that decides about the rows of a view."""
    fields = {f.name: getattr(view, f.name) for f in dataclasses.fields(view) if f.name not in _TELLS_NOTHING}
    return hashlib.sha256(repr((type(view).__name__, sorted(fields.items()))).encode()).hexdigest()


def written(mark: Mark) -> str:
    return canonical(encode(mark)).decode()


def mark_of(text: str | None) -> Mark | None:
    """The mark that `written` wrote; None also for a mark that nobody can read: then the view is filled as if it had none."""
    if text is None:
        return None
    try:
        return decode(Mark, json.loads(text))
    except (ValueError, TypeError, FalajError):
        return None
