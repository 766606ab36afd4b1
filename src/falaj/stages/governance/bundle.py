"""Bundle: the ledger laid out as files for others (C2SP tlog-tiles), so that they check it with tools of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from falaj.core.errors import Conflict, FalajError
from falaj.core.note import read_statement, split_note
from falaj.core.tiles import ENTRIES, WIDTH, Tile, tiles_of, write_entries
from falaj.ports.ledger import Checkpoint
from falaj.ports.shelf import Shelf
from falaj.stages.governance.tree import Leaves, LedgerTree

CHECKPOINT, CHECKPOINTS, KEYS = "checkpoint", "checkpoints.jsonl", "vkeys"


@dataclass(frozen=True, slots=True)
class Exported:
    place: str
    size: int
    root: str
    tiles: int
    """How many files of leaves and hashes were new."""


def export(shelf: Shelf, leaves: Leaves, tree: LedgerTree, checkpoints: list[Checkpoint], keys: Iterable[str]) -> Exported:
    """Adds what is new to the bundle on the shelf; a reader finds a whole one at any moment.

    `checkpoints`: all of the ledger, cosignatures in their notes; the bundle goes up to the last. `keys`: lines of a file
    that says which keys sign, for convenience and never as evidence. Raises Conflict where the shelf holds another history.
    """
    newest = checkpoints[-1]
    since = _covered(shelf, tree)
    if not tree.extends(newest.size, newest.root):
        raise Conflict(
            f"The ledger is not what its checkpoint of {newest.size} events covers.", "`falaj audit verify` shows where."
        )
    count = 0
    for tile in tiles_of(newest.size, since):
        shelf.put(tile.path, _bytes(tile, leaves, tree))
        count += 1
    shelf.put(KEYS, "".join(f"{line}\n" for line in keys).encode())
    lines = (json.dumps({"note": c.note}, ensure_ascii=False) for c in checkpoints)
    shelf.put(CHECKPOINTS, "".join(f"{line}\n" for line in lines).encode())
    shelf.settle()
    # Last of all, and only when the rest is on the disk: who reads it may rely on everything that it covers.
    shelf.put(CHECKPOINT, newest.note.encode())
    shelf.settle()
    return Exported(shelf.place, newest.size, f"sha256:{newest.root.hex()}", count)


def _covered(shelf: Shelf, tree: LedgerTree) -> int:
    """How far the bundle on the shelf goes; 0 where there is none."""
    kept = shelf.get(CHECKPOINT)
    if kept is None:
        return 0
    try:
        told = read_statement(split_note(kept.decode("utf-8", "replace"))[0])
    except FalajError as exc:
        raise Conflict(f"The bundle in {shelf.place} cannot be read: {exc.message}", "move it away and export anew.") from exc
    if not tree.extends(told.size, told.root):
        raise Conflict(
            f"The bundle in {shelf.place} holds another history: its {told.size} events are not those of this ledger.",
            "keep it, and compare: falaj audit verify",
        )
    return told.size


def _bytes(tile: Tile, leaves: Leaves, tree: LedgerTree) -> bytes:
    if tile.level != ENTRIES:
        return tree.hashes(tile)
    first = tile.index * WIDTH
    return write_entries(list(leaves(first, first + tile.width)))
