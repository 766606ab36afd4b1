"""Watch: follows a ledger event by event, and notices when what it told before is not there any more.

What this process has read is not read again each time: whether all of it is what it was is for `verify` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from falaj.core.decision import Check, Verdict, judge
from falaj.core.digests import hex_of
from falaj.core.errors import FalajError, InvalidInput
from falaj.core.leaf import event_of
from falaj.core.merkle import leaf_hash
from falaj.core.succession import Succession
from falaj.ports.ledger import Ledger
from falaj.stages.governance.tree import LedgerTree

MOST = 1000
"""Events of one watch; the next one goes on."""


@dataclass(frozen=True, slots=True)
class Watched:
    """`events`: number, time, actor, verb, subject and leaf hash of each. `after` and `root` go into the next watch."""

    verdict: Verdict
    events: tuple[Mapping[str, Any], ...]
    checks: tuple[Check, ...]
    after: int
    root: str


def watch(ledger: Ledger, tree: LedgerTree, keys: Succession, *, since: tuple[int, str], limit: int) -> Watched:
    """The events behind `since`, which the watch before returned. Raises InvalidInput for a place or a root that cannot be."""
    after, root = since
    if after < -1 or not 1 <= limit <= MOST:
        raise InvalidInput(f"A watch begins behind an event, and tells 1 to {MOST} of them.", "as in --after 41 --limit 100.")
    wanted = bytes.fromhex(hex_of(root)) if root else None
    events, fault = list[Mapping[str, Any]](), ""
    for place, leaf in enumerate(islice(ledger.leaves(after + 1, after + 1 + limit), limit), after + 1):
        try:
            event = event_of(leaf)
            fault = fault or ("" if event.seq == place else f"event {place} says that it is number {event.seq}")
            told = {"at": event.at, "actor": str(event.actor), "verb": event.verb, "subject": event.subject}
        except FalajError as exc:
            fault, told = fault or f"event {place} cannot be read: {exc.message}", {}
        events.append({"seq": place, **told, "hash": f"sha256:{leaf_hash(leaf).hex()}"})
    last = after + len(events)
    checks = [Check("leaves", "each event readable, with its own number", fault or f"{len(events)} events", not fault)]
    if wanted is not None:
        same = tree.extends(after + 1, wanted)
        seen = f"the {after + 1} events are the same" if same else f"the first {after + 1} events are gone, or not the same"
        checks.append(Check("history", "all that was seen before", seen, same))
    checks.append(_signed(ledger, tree, keys, last + 1))
    now = _root(tree, last + 1)
    return Watched(judge(checks), tuple(events), tuple(checks), last, now)


def _signed(ledger: Ledger, tree: LedgerTree, keys: Succession, size: int) -> Check:
    wanted = "the newest checkpoint up to here signed and true"
    newest = next((checkpoint for checkpoint in reversed(ledger.checkpoints()) if checkpoint.size <= size), None)
    if newest is None:
        return Check("signature", wanted, "none yet", True)
    try:
        told = keys.open(newest.note)
    except FalajError as exc:
        return Check("signature", wanted, exc.message, False)
    true = (told.size, told.root) == (newest.size, newest.root) and tree.extends(told.size, told.root)
    seen = f"{told.size} events, signed by {keys.name}" if true else f"the {told.size} events that were signed are not those here"
    return Check("signature", wanted, seen, true)


def _root(tree: LedgerTree, size: int) -> str:
    try:
        return f"sha256:{tree.root(size).hex()}"
    except FalajError:
        return ""
