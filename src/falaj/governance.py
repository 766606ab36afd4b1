"""Wiring of what watches over the project: the audit trail, the trace of a prediction, and whoever answers for them."""

from __future__ import annotations

from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

from falaj.core.errors import Conflict

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.config import Settings
    from falaj.core.note import Verifier
    from falaj.stages.governance.audit import Audit
    from falaj.stages.governance.records import Records
    from falaj.stages.governance.trace import Trace


def refuse_second(settings: Settings) -> None:
    """Raises Conflict where the database that the settings name holds this project's ledger already, signed by another key."""
    from falaj.adapters import open_adapter
    from falaj.adapters.local.reference import address
    from falaj.adapters.local.signing import SigningKey

    if settings.ledger != "postgresql" or not settings.ledger_url:
        return
    url, name = address("ledger_url", str(settings.ledger_url)), str(settings.name)
    with closing(open_adapter("ledger", "postgresql", url=url, project=name, key=SigningKey.generate())) as ledger:
        if next(ledger.leaves(0, 1), None) is not None:
            raise Conflict(
                f"The database holds a ledger of the project {name!r} already.",
                "copy the state folder's keys from the machine that made it, or give this project another name.",
            )


class Governance:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, app: App) -> None:
        self.app = app

    @cached_property
    def audit(self) -> Audit:
        from falaj.stages.governance.audit import Audit

        return Audit(self.app.kernel, self.verifier)

    @cached_property
    def records(self) -> Records:
        from falaj.stages.governance.records import Records

        return Records(self.app.kernel)

    @cached_property
    def trace(self) -> Trace:
        from falaj.adapters.local.signing import checker, load_public
        from falaj.stages.governance.trace import Trace

        app = self.app
        verify = checker(load_public(app.state / "keys" / "model.ed25519.pub"))
        return Trace(app.kernel, app.blobs, app.predictions_of, app.contracts, app.features, self.verifier, verify)

    @cached_property
    def verifier(self) -> Verifier:
        """Checks the ledger's checkpoints with the key in the state folder; a stranger uses a copy of that key."""
        from falaj.adapters.local.signing import load_public, verifier
        from falaj.core.note import vkey

        public = load_public(self.app.state / "keys" / "ledger.ed25519.pub")
        return verifier(vkey(f"falaj/{self.app.settings.name}", public))
