"""Unversioned: a contract that says something else than when rows came in under it, and still has the same version."""

from __future__ import annotations

from collections.abc import Sequence

from falaj.core.asset import Asset
from falaj.core.decision import Check
from falaj.ports.blobs import Blobs
from falaj.stages.contracts import odcs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.diff import diff

SHOWN = 3


def before(snapshots: Sequence[Asset], blobs: Blobs) -> Contract | None:
    """The contract under which the newest of these snapshots came in; None where there is none."""
    digest = snapshots[-1].labels.get("contract") if snapshots else None
    return odcs.read(blobs.get(str(digest)), str(snapshots[-1].ref)) if digest else None


def unversioned(old: Contract | None, new: Contract) -> Check | None:
    """A check that failed, with what changed, where the version did not; else None. Comments and layout are no change."""
    if old is None or old.version != new.version or old.digest == new.digest:
        return None
    changes = diff(old, new).changes
    if not changes:
        return None
    told = "; ".join(f"{change.place}: {change.what}" for change in changes[:SHOWN])
    told += f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return Check(f"info: contract changed under version {new.version}", "a version of its own", told, False)
