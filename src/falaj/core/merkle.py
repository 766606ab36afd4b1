"""The Merkle tree of RFC 6962: hashes, roots, and proofs that a stranger can check.

Leaf hash: SHA-256(0x00 ‖ leaf). Node hash: SHA-256(0x01 ‖ left ‖ right). Section 2.1 of RFC 6962; the verification
algorithms are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2, which uses the same hashing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TypeAlias

Node: TypeAlias = Callable[[int, int], bytes]
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: appends in O(log n) and knows the root, without keeping the leaves."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, got {len(peaks)}")
        self.size = size
        self.peaks = list(peaks)
        """Roots of the complete subtrees, largest first."""

    def append(self, hashed: bytes) -> None:
        """Takes the *leaf hash* of the next leaf."""
        self.extend((hashed,))

    def extend(self, hashes: Sequence[bytes]) -> None:
        """Takes the leaf hashes of the next leaves.

        Many at once go in by whole subtrees, level by level, as large as may stand at their place.
        """
        peaks, size = self.peaks, self.size
        place, count = 0, len(hashes)
        while place < count:
            block = 1 << ((count - place).bit_length() - 1)
            if size:
                block = min(block, size & -size)
            node = hashes[place] if block == 1 else _complete(hashes[place : place + block])
            place, size = place + block, size + block
            rest = size // block
            while not rest & 1:
                node = sha256(b"\x01" + peaks.pop() + node).digest()  # as `node_hash`: the call would cost as much again
                rest >>= 1
            peaks.append(node)
        self.size = size

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def _complete(level: Sequence[bytes]) -> bytes:
    """The root over a power of two of leaf hashes."""
    while len(level) > 1:
        row = b"".join(level)
        level = [sha256(b"\x01" + row[at : at + 64]).digest() for at in range(0, len(row), 64)]
    return level[0]


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over the leaf hashes."""
    frontier = Frontier()
    frontier.extend(hashes)
    return frontier.root()


def inclusion_proof(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index` in the tree over `hashes` (RFC 6962, section 2.1.1). Raises IndexError outside it."""
    return inclusion_path(index, len(hashes), lambda low, high: root(hashes[low:high]))


def inclusion_path(index: int, size: int, node: Node) -> list[bytes]:
    """As `inclusion_proof`, of a tree that knows the roots of its parts: `node(low, high)` is the root over those leaves."""
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of {size}")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        split = low + _largest_power_below(high - low)
        if index < split:
            path.append(node(split, high))
            high = split
        else:
            path.append(node(low, split))
            low = split
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], wanted_root: bytes) -> bool:
    """Whether the leaf hash `leaf` is number `index` of the `size` leaves under `wanted_root`."""
    if not 0 <= index < size:
        return False
    node, position, last = leaf, index, size - 1
    for sibling in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and node == wanted_root


def consistency_proof(hashes: Sequence[bytes], earlier: int) -> list[bytes]:
    """The proof that the tree over the first `earlier` hashes is a prefix of the tree over all of them."""
    return consistency_path(earlier, len(hashes), lambda low, high: root(hashes[low:high]))


def consistency_path(earlier: int, size: int, node: Node) -> list[bytes]:
    """As `consistency_proof`, of a tree that knows the roots of its parts. Raises IndexError outside it."""
    if not 0 < earlier <= size:
        raise IndexError(f"tree of {earlier} in a tree of {size}")
    path: list[bytes] = []
    low, high, whole = 0, size, True
    while earlier != high:
        split = low + _largest_power_below(high - low)
        if earlier <= split:
            path.append(node(split, high))
            high = split
        else:
            path.append(node(low, split))
            low, whole = split, False
    return path[::-1] if whole else [node(low, high), *path[::-1]]


def verify_consistency(earlier: int, size: int, earlier_root: bytes, later_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a tree of `earlier` leaves was extended, never changed, into the tree of `size` leaves."""
    if earlier == size:
        return not path and earlier_root == later_root
    if not 0 < earlier < size or not path:
        return False
    nodes = list(path)
    if earlier & (earlier - 1) == 0:
        nodes.insert(0, earlier_root)
    position, last = earlier - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, node)
        position, last = position >> 1, last >> 1
    return last == 0 and first == earlier_root and second == later_root


def _largest_power_below(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)
