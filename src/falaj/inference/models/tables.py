"""Trees for many rows at once, without a branch: numpy looks every number up instead of walking through the trees.

A walk guesses at each node which way it goes, and a processor that guesses wrong waits. Here each tree's leaves are the bits of
a word, from left to right. A row's number in one column decides every node on that column at once: those where it goes right
rule out the leaves on their left. So for each column and each interval between two cuts one word per tree says which leaves
remain; a row's words are combined with `and`, and the lowest bit that is left is its leaf (Lucchese et al., QuickScorer, SIGIR
2015, with the intervals looked up instead of scanned).
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.inference.models.forest import Forest, Ints, distinct

MOST_BYTES = 16 << 20
"""Larger tables do not fit a processor's cache, and cost memory."""
TOGETHER = 64
"""Rows that go through the tables together; what is held meanwhile fits a cache."""
BUCKETS = 512
MOST_STEPS = 4
_MANTISSA, _BIAS = 52, 1023
"""Of a 64-bit float."""
_WORDS = ((8, np.uint8), (16, np.uint16), (32, np.uint32), (64, np.uint64))
"""So many leaves at most, and the word that has a bit for each."""


class Tables:
    """The forest's tables. Its margins are those of onnxruntime, to the bit: leaves are summed as 32-bit floats, in order."""

    def __init__(self, forest: Forest) -> None:
        leaves, count = _leaves(forest)
        self._words = next(word for most, word in _WORDS if count <= most)
        self._columns = distinct(forest.feature[~forest.is_leaf])
        self._all = len(self._columns) == forest.columns
        cuts = [distinct(forest.cut[forest.feature == column]) for column in self._columns]
        sizes = np.array([len(part) + 2 for part in cuts])
        starts = np.cumsum(sizes) - sizes
        self._cuts = np.concatenate([np.append(part, np.full(2, np.inf, np.float32)) for part in cuts])
        self._gone = (starts + sizes - 1)[:, None]
        """The row of a missing value, for each column."""
        self._table = self._filled(forest, leaves, (cuts, starts))
        self._search = _Search(cuts, starts)
        width = 1 << (count - 1).bit_length()
        self._values = np.zeros(len(forest.roots) * width, np.float32)
        leaf, tree = forest.is_leaf, forest.tree_of()
        self._values[tree[leaf] * width + leaves[leaf]] = forest.value[leaf]
        self._offsets = (np.arange(len(forest.roots), dtype=np.int64) * width - _BIAS)[:, None]
        self._base = np.float32(forest.base[0])
        # What is allocated anew for each batch goes back to the system and costs as much as the work itself.
        kinds = (self._words, self._words, self._words, np.float64, np.float32)
        self._room = [np.empty(TOGETHER * len(forest.roots), kind) for kind in kinds]
        self._spaces: dict[int, tuple[NDArray[Any], ...]] = {}
        self._turn = Lock()

    def _filled(self, forest: Forest, leaves: Ints, layout: tuple[list[NDArray[np.float32]], Ints]) -> NDArray[Any]:
        """[intervals, trees]: the leaves that remain. Column by column: its intervals upwards, then a missing value."""
        cuts, starts = layout
        table = np.full((len(self._cuts), len(forest.roots)), np.iinfo(self._words).max, self._words)
        tree = forest.tree_of()
        for column, part, start in zip(self._columns, cuts, starts, strict=True):
            nodes = np.flatnonzero(forest.feature == column)
            first, behind = leaves[nodes], leaves[forest.no[nodes]]
            ones = (np.uint64(1) << (behind - first).astype(np.uint64)) - np.uint64(1)
            keep = np.bitwise_not(ones << first.astype(np.uint64)).astype(self._words)
            rows = start + 1 + np.searchsorted(part, forest.cut[nodes])
            np.bitwise_and.at(table, (rows, tree[nodes]), keep)
            end = start + len(part) + 1
            np.bitwise_and.accumulate(table[start:end], axis=0, out=table[start:end])
            right = ~forest.missing[nodes]
            np.bitwise_and.at(table, (np.full(int(right.sum()), end), tree[nodes[right]]), keep[right])
        return table

    def margins(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, columns] → [n, 1], in pieces of 64 rows."""
        with self._turn:
            parts = [self._some(matrix[start : start + TOGETHER]) for start in range(0, len(matrix), TOGETHER)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _some(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        x = np.ascontiguousarray(matrix.T if self._all else matrix.T[self._columns])
        rows = self._search.rows(x, self._cuts)
        gone = np.isnan(x)
        if gone.any():
            np.copyto(rows, self._gone, where=gone)
        left, more, turned, other, bits, found = self._spaces.get(len(matrix)) or self._space(len(matrix))
        self._table.take(rows[0], 0, left, "clip")
        for place in rows[1:]:
            self._table.take(place, 0, more, "clip")
            np.bitwise_and(left, more, left)
        # Trees first: so the sum below adds tree after tree, as a walk does, and still many rows at a time.
        np.copyto(turned, left.T)
        np.bitwise_and(turned, np.negative(turned, other), turned)
        # The exponent of a power of two is the number of its bit.
        np.copyto(bits, turned, casting="unsafe")
        leaf = bits.view(np.int64)
        leaf >>= _MANTISSA
        leaf += self._offsets
        self._values.take(leaf, None, found, "clip")
        # numpy adds a single column in another order.
        total = np.add.reduce(found, 0) if len(matrix) > 1 else np.add.accumulate(found, 0)[-1]
        margins: NDArray[np.float32] = (total + self._base)[:, None]
        return margins

    def _space(self, count: int) -> tuple[NDArray[Any], ...]:
        """Room for so many rows: words by row, twice, words by tree, twice, bits and leaves by tree."""
        trees = len(self._offsets)
        left, more, turned, bits, found = (room[: count * trees] for room in self._room)
        by_tree = (room.reshape(trees, count) for room in (turned, more, bits, found))
        self._spaces[count] = space = (left.reshape(count, trees), more.reshape(count, trees), *by_tree)
        return space


class _Search:
    """How many cuts of its column lie below a number: a guess by equal buckets, then at most a few steps up."""

    def __init__(self, cuts: list[NDArray[np.float32]], starts: Ints) -> None:
        ends = np.array([_ends(part) for part in cuts], np.float32)
        self._low = ends[:, :1]
        with np.errstate(all="ignore"):
            scale = np.float32(BUCKETS - 1) / (ends[:, 1:] - ends[:, :1])
        self._scale = np.where(np.isfinite(scale), scale, np.float32(0))
        guesses, steps = [], []
        for number, (part, start) in enumerate(zip(cuts, starts, strict=True)):
            inside = np.bincount(self._bucket(part[None, :], number)[0], minlength=BUCKETS)
            guesses.append(start + np.cumsum(inside) - inside)
            steps.append(int(inside.max()))
        self._guess = np.concatenate(guesses).astype(np.int32)  # half as much in the cache
        self._shift = (np.arange(len(cuts)) * BUCKETS)[:, None]
        self._steps = max([count for count in steps if count <= MOST_STEPS], default=0)
        # Cuts that lie too close together for buckets are searched by halves.
        self._close = [(n, part, starts[n]) for n, part in enumerate(cuts) if steps[n] > MOST_STEPS]

    def rows(self, x: NDArray[np.float32], cuts: NDArray[np.float32]) -> Ints:
        """[columns, n] → the table's row of each number; any row of its column for a missing one."""
        place = self._bucket(x, slice(None))
        place += self._shift
        found = self._guess.take(place).astype(np.int64)
        for _ in range(self._steps):
            found += x > cuts.take(found)
        for number, part, start in self._close:
            found[number] = part.searchsorted(x[number])
            found[number] += start
        return found

    def _bucket(self, x: NDArray[np.float32], which: Any) -> Ints:
        """Never falls where x rises, so that cuts in a lower bucket are below x."""
        low, scale = (self._low, self._scale) if isinstance(which, slice) else (self._low[[which]], self._scale[[which]])
        with np.errstate(all="ignore"):
            found = x - low
            found *= scale
        np.fmax(found, 0, found)
        np.fmin(found, BUCKETS - 1, found)
        return found.astype(np.int64)


def _ends(cuts: NDArray[np.float32]) -> tuple[float, float]:
    """The least and the greatest cut that is finite."""
    found = cuts[np.isfinite(cuts)]
    return (float(found[0]), float(found[-1])) if len(found) else (0.0, 0.0)


def tables(forest: Forest) -> Tables | None:
    """The tables, or None for a forest that they do not suit: several targets, more than 64 leaves a tree, too many cuts."""
    inner = ~forest.is_leaf
    if forest.targets != 1 or not inner.any():
        return None
    _, count = _leaves(forest)
    if count > _WORDS[-1][0]:
        return None
    width = next(np.dtype(word).itemsize for most, word in _WORDS if count <= most)
    cuts = sum(len(distinct(forest.cut[forest.feature == column])) + 2 for column in distinct(forest.feature[inner]))
    return Tables(forest) if cuts * len(forest.roots) * width <= MOST_BYTES else None


def _leaves(forest: Forest) -> tuple[Ints, int]:
    """For each node the number of its first leaf, from left to right in its tree; and the most leaves of a tree."""
    levels = forest.levels()
    count = forest.is_leaf.astype(np.int64)
    for level in reversed(levels):
        inner = level[forest.feature[level] >= 0]
        count[inner] = count[forest.yes[inner]] + count[forest.no[inner]]
    first = np.zeros(len(count), np.int64)
    for level in levels:
        inner = level[forest.feature[level] >= 0]
        first[forest.yes[inner]] = first[inner]
        first[forest.no[inner]] = first[inner] + count[forest.yes[inner]]
    return first, int(count[forest.roots].max())
