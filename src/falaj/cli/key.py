"""Whose word the command line speaks with: a key or token from the environment, a login, or the operator's key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from falaj.core.errors import Unauthenticated
from falaj.ports.identity import Credential

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.core.actor import Actor


def who(app: App) -> Actor:
    """The holder of the key or token in FALAJ_API_KEY, else of the login, else of the state folder's keys/operator.key.

    Raises Unauthenticated.
    """
    return app.access.identity.authenticate(Credential(_shown(app)))


def _shown(app: App) -> str:
    text = os.environ.get("FALAJ_API_KEY", "")
    if not text and app.settings.oidc_issuer:
        from falaj.cli.login import held

        text = held(app)
    if text:
        return text
    path = app.settings.state_folder / "keys" / "operator.key"
    try:
        return path.read_text("utf-8").strip()
    except OSError as exc:
        raise Unauthenticated(
            f"There is no key: FALAJ_API_KEY is empty and {path} cannot be read.", "export FALAJ_API_KEY=falaj_…"
        ) from exc
