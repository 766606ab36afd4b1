"""Two commands about the audit trail that only a terminal offers: following it, and handing out the verifier."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from falaj.core.codec import encode
from falaj.core.decision import Decision
from falaj.core.ref import Ref
from falaj.operations.operation import Argument, value_of

if TYPE_CHECKING:
    from falaj.app import App

LOOK_S = 1.0
FOLLOWS = (
    Argument("after", "the number of the last event that was seen", "integer", -1),
    Argument("limit", "how many events, then it ends (default: it goes on)", "integer", 0),
)


def print_verifier() -> None:
    """As it is, so that it can go into a file."""
    from falaj.auditor import verifier_source

    sys.stdout.write(verifier_source())


def follow(app: App, given: Mapping[str, Any]) -> Any:
    """One line of JSON for each event, as it comes; ends at `limit` events, or with the first check that fails."""
    after, left = (value_of(argument, given.get(argument.name)) for argument in FOLLOWS)
    root = ""
    while True:
        seen = app.audit.watch(after=after, root=root, limit=min(left or 1000, 1000))
        for event in seen.events:
            sys.stdout.write(json.dumps(encode(event), ensure_ascii=False) + "\n")
        sys.stdout.flush()
        if seen.verdict == "deny":
            return Decision(Ref("ledger", "local"), "watch", seen.verdict, seen.checks, at=app.kernel.now())
        if left and (left := left - len(seen.events)) <= 0:
            return None
        after, root = seen.after, seen.root
        if not seen.events:
            time.sleep(LOOK_S)
