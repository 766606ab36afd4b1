"""A ledger's hash tree, made from its leaves and kept in short, so that a proof costs a few hundred hashes, not all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from falaj.core.errors import Conflict
from falaj.core.merkle import EMPTY_ROOT, consistency_path, inclusion_path, leaf_hash, node_hash, root
from falaj.core.tiles import WIDTH, Tile, TileTree
from falaj.ports.ledger import Checkpoint

Leaves = Callable[[int, int], Iterator[bytes]]
_LOOK = "`falaj audit verify` shows where."


class LedgerTree:
    """Remembers one hash for every 256 leaves; what it gives out is checked against the checkpoint that it is for."""

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        self._full = TileTree()
        self._turn = threading.Lock()

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves. Raises Conflict where the ledger has fewer."""
        self._grow(size)
        return self._node(0, size)

    def inclusion(self, index: int, checkpoint: Checkpoint) -> tuple[bytes, ...]:
        """The path of a leaf under a checkpoint. Raises Conflict where the ledger is not what the checkpoint covers."""
        self._fits(checkpoint)
        return tuple(inclusion_path(index, checkpoint.size, self._node))

    def consistency(self, earlier: int, checkpoint: Checkpoint) -> tuple[bytes, ...]:
        """The path from the tree of `earlier` leaves to a checkpoint. Raises Conflict as `inclusion`."""
        self._fits(checkpoint)
        return tuple(consistency_path(earlier, checkpoint.size, self._node)) if earlier else ()

    def extends(self, size: int, wanted: bytes) -> bool:
        """Whether the first `size` leaves still have that root."""
        try:
            return self.root(size) == wanted
        except Conflict:
            return False

    def hashes(self, tile: Tile) -> bytes:
        """The bytes of a hash tile. Raises Conflict where the ledger does not reach so far."""
        if tile.level > 0:
            self._grow((tile.index * WIDTH + tile.width) * WIDTH**tile.level)
            return self._full.hashes(Tile(tile.level - 1, tile.index, tile.width))
        first = tile.index * WIDTH
        return b"".join(self._hashed(first, first + tile.width))

    def _fits(self, checkpoint: Checkpoint) -> None:
        if not self.extends(checkpoint.size, checkpoint.root):
            raise Conflict(f"The ledger is not what its checkpoint of {checkpoint.size} events covers.", _LOOK)

    def _grow(self, size: int) -> None:
        with self._turn:
            have = self._full.size
            if have >= size // WIDTH:
                return
            tile, made = list[bytes](), list[bytes]()
            for leaf in self._leaves(have * WIDTH, size // WIDTH * WIDTH):
                tile.append(leaf_hash(leaf))
                if len(tile) == WIDTH:
                    made.append(root(tile))
                    tile.clear()
            if have + len(made) < size // WIDTH:
                raise Conflict(f"The ledger has fewer than {size} events.", _LOOK)
            self._full.extend(made)

    def _node(self, low: int, high: int) -> bytes:
        count = high - low
        if count <= 0:
            return EMPTY_ROOT
        if low % WIDTH == 0 and high % WIDTH == 0:
            return self._full.node(low // WIDTH, high // WIDTH)
        if count <= WIDTH:
            return root(self._hashed(low, high))
        split = low + (1 << (count - 1).bit_length() - 1)
        return node_hash(self._node(low, split), self._node(split, high))

    def _hashed(self, low: int, high: int) -> list[bytes]:
        found = [leaf_hash(leaf) for leaf in self._leaves(low, high)]
        if len(found) != high - low:
            raise Conflict(f"The ledger has fewer than {high} events.", _LOOK)
        return found
