"""Tiles: a ledger's hashes and leaves cut into files of 256, which any tool for tiled logs reads (C2SP tlog-tiles)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from falaj.core.errors import InvalidInput
from falaj.core.leaf import MAX_LEAF
from falaj.core.merkle import EMPTY_ROOT, node_hash, root

WIDTH = 256
ENTRIES = -1
"""The level of an entry bundle, which holds leaves and no hashes."""
_PATH = re.compile(r"tile/(0|[1-9][0-9]?|entries)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """Tile `index` of a level; a `width` below 256 says that the tree ends in it. Raises InvalidInput for what cannot be."""

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if not (ENTRIES <= self.level <= 63 and 0 <= self.index < 10**18 and 1 <= self.width <= WIDTH):
            raise InvalidInput(f"There is no tile {self.index} of width {self.width} on level {self.level}.")

    @property
    def path(self) -> str:
        """Where it lies below the log's prefix: `tile/0/x001/x234/067.p/8`."""
        groups = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        return f"tile/{level}/{'/'.join(reversed(groups))}" + ("" if self.width == WIDTH else f".p/{self.width}")


def read_tile(path: str) -> Tile:
    """The tile that lies there. Raises InvalidInput for any other path, also where a tile's path is written otherwise."""
    found = _PATH.fullmatch(path)
    if found is not None:
        level = ENTRIES if found[1] == "entries" else int(found[1])
        index = int(found[2].replace("x", "").replace("/", ""))
        width = int(found[3] or WIDTH)
        if level <= 63 and width <= WIDTH and (tile := Tile(level, index, width)).path == path:
            return tile
    raise InvalidInput(f"{path[:120]!r} is not the path of a tile.", "as in tile/0/x001/x234/067 or tile/entries/000.p/8.")


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """The tiles of a tree of `size` leaves, entry bundles too, which a tree of `since` leaves does not have alike."""
    for first, level in ((ENTRIES, 0), *((level, level) for level in range(64))):
        before, count = since >> 8 * level, size >> 8 * level
        if count == 0:
            return
        for index in range(before // WIDTH, -(-count // WIDTH)):
            width = min(WIDTH, count - index * WIDTH)
            if index * WIDTH + width > before:
                yield Tile(first, index, width)


def write_entries(leaves: Sequence[bytes]) -> bytes:
    """An entry bundle: each leaf behind its length in two bytes. Raises InvalidInput for a leaf that is too long."""
    if any(len(leaf) > MAX_LEAF for leaf in leaves):
        raise InvalidInput(f"A leaf of an entry bundle has at most {MAX_LEAF} bytes.")
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def read_entries(data: bytes, width: int = WIDTH) -> list[bytes]:
    """The leaves of a bundle. Raises InvalidInput where there are not `width` of them, no byte more and no byte less."""
    leaves, at = list[bytes](), 0
    while at < len(data) and len(leaves) < width:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            break
        leaves.append(data[at + 2 : end])
        at = end
    if at != len(data) or len(leaves) != width:
        raise InvalidInput(f"The entry bundle does not hold {width} whole leaves.")
    return leaves


class TileTree:
    """A growing tree that keeps its hashes tile by tile, so that any proof and any tile costs a few hundred hashes."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]
        """Level l: the roots of complete subtrees of 256**l leaves, in order."""

    @property
    def size(self) -> int:
        return len(self._levels[0])

    def extend(self, hashes: Sequence[bytes]) -> None:
        """Takes the leaf hashes of the next leaves."""
        self._levels[0].extend(hashes)
        for level, row in enumerate(self._levels):
            if len(row) < WIDTH:
                return
            if level + 1 == len(self._levels):
                self._levels.append([])
            above = self._levels[level + 1]
            above.extend(root(row[n * WIDTH : (n + 1) * WIDTH]) for n in range(len(above), len(row) // WIDTH))

    def hashes(self, tile: Tile) -> bytes:
        """The bytes of a tile. Raises InvalidInput where the tree does not reach so far."""
        row = self._levels[tile.level] if 0 <= tile.level < len(self._levels) else []
        found = row[tile.index * WIDTH : tile.index * WIDTH + tile.width]
        if len(found) != tile.width:
            raise InvalidInput(f"The tree of {self.size} leaves has no {tile.path}.")
        return b"".join(found)

    def node(self, low: int, high: int) -> bytes:
        """The root over the leaves from `low` to `high`, as a proof needs it: `low` a multiple of a power of two that is not
        less than their number."""
        count = high - low
        if count <= 0:
            return EMPTY_ROOT
        level = 0
        while level + 1 < len(self._levels) and count % 256 ** (level + 1) == 0 and count & (count - 1) == 0:
            level += 1
        unit: int = 256**level
        if count % unit == 0 and count // unit <= WIDTH:
            return root(self._levels[level][low // unit : high // unit])
        split = low + (1 << (count - 1).bit_length() - 1)
        return node_hash(self.node(low, split), self.node(split, high))

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves. Raises InvalidInput where there are fewer."""
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise InvalidInput(f"The tree has {self.size} leaves, not {size}.")
        return self.node(0, size)
