"""Whose key the command line shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from falaj.core.errors import Unauthenticated

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.core.actor import Actor


def who(app: App) -> Actor:
    """The holder of the key in FALAJ_API_KEY, or in the state folder's keys/operator.key. Raises Unauthenticated."""
    text = os.environ.get("FALAJ_API_KEY", "")
    path = app.settings.state_folder / "keys" / "operator.key"
    if not text:
        try:
            text = path.read_text("utf-8").strip()
        except OSError as exc:
            raise Unauthenticated(
                f"There is no key: FALAJ_API_KEY is empty and {path} cannot be read.", "export FALAJ_API_KEY=falaj_…"
            ) from exc
    return app.governance.residency.placed(app.keys.authenticate(text))
