from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.merkle import (
    consistency_path,
    consistency_proof,
    inclusion_path,
    inclusion_proof,
    leaf_hash,
    root,
)
from falaj.core.tiles import ENTRIES, Tile, TileTree, read_entries, read_tile, tiles_of, write_entries

HASHES = [hashlib.sha256(b"%d" % n).digest() for n in range(70_000)]


def tree(size: int) -> TileTree:
    made = TileTree()
    made.extend(HASHES[:size])
    return made


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        # the specification's own example, and those of other implementations
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 1234067, 8), "tile/0/x001/x234/067.p/8"),
        (Tile(ENTRIES, 1234067, 8), "tile/entries/x001/x234/067.p/8"),
        (Tile(0, 0), "tile/0/000"),
        (Tile(63, 999, 255), "tile/63/999.p/255"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(ENTRIES, 0, 1), "tile/entries/000.p/1"),
        (Tile(ENTRIES, 10), "tile/entries/010"),
    ],
)
def test_a_tile_lies_where_the_specification_says(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert read_tile(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "", "tile/0/0", "tile/0/x000/001", "tile/00/000", "tile/64/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
        "tile/-1/000", "tile/0/001/000", "tile/0/x001", "/tile/0/000", "tile/0/000/", "tile/0/../000",
        "tile/0/00٠", "tile/0/000\n",
    ],
)  # fmt: skip
def test_what_is_no_tiles_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        read_tile(path)


def test_what_cannot_be_a_tile_is_refused() -> None:
    for wrong in ((64, 0, 256), (-2, 0, 256), (0, -1, 256), (0, 0, 0), (0, 0, 257)):
        with pytest.raises(InvalidInput):
            Tile(*wrong)


def test_the_specifications_tree_of_70000_has_these_tiles() -> None:
    found = list(tiles_of(70_000))
    for level in (ENTRIES, 0):
        rows = [tile for tile in found if tile.level == level]
        assert [len(rows), rows[-1].width, {tile.width for tile in rows[:-1]}] == [274, 112, {256}]
    assert [(t.index, t.width) for t in found if t.level == 1] == [(0, 256), (1, 17)]
    assert [(t.index, t.width) for t in found if t.level == 2] == [(0, 1)]
    assert [t.path for t in tiles_of(256)] == ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    assert list(tiles_of(0)) == []


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_only_what_has_changed_is_named(first: int, second: int) -> None:
    since, size = sorted((first, second))
    old, new = set(tiles_of(since)), set(tiles_of(size))
    assert set(tiles_of(size, since)) == new - old


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 1000, 65_536, 65_537, 70_000])
def test_a_tree_of_tiles_has_the_root_of_its_leaves(size: int) -> None:
    made = tree(size)
    assert (made.size, made.root()) == (size, root(HASHES[:size]))
    assert made.root(size // 2) == root(HASHES[: size // 2])


def test_a_tree_that_grows_bit_by_bit_is_the_same_tree() -> None:
    grown = TileTree()
    for at in range(0, 1000, 37):
        grown.extend(HASHES[at : min(at + 37, 1000)])
    for tile in tiles_of(1000):
        if tile.level != ENTRIES:
            assert grown.hashes(tile) == tree(1000).hashes(tile)


def test_a_tile_holds_the_hashes_of_its_level() -> None:
    made = tree(70_000)
    assert made.hashes(Tile(0, 273, 112)) == b"".join(HASHES[273 * 256 :])
    assert made.hashes(Tile(1, 1, 17)) == b"".join(root(HASHES[n * 256 : (n + 1) * 256]) for n in range(256, 273))
    assert made.hashes(Tile(2, 0, 1)) == root(HASHES[:65_536])
    for missing in (Tile(0, 274, 1), Tile(0, 273), Tile(3, 0, 1), Tile(ENTRIES, 0)):
        with pytest.raises(InvalidInput):
            made.hashes(missing)


@given(st.integers(1, 1400), st.data())
def test_proofs_from_tiles_are_those_from_all_hashes(size: int, data: st.DataObject) -> None:
    made, hashes = tree(size), HASHES[:size]
    index, earlier = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert inclusion_path(index, size, made.node) == inclusion_proof(hashes, index)
    assert consistency_path(earlier, size, made.node) == consistency_proof(hashes, earlier)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_entries_are_read_as_they_were_written(leaves: list[bytes]) -> None:
    assert read_entries(write_entries(leaves), len(leaves)) == leaves
    for wrong in (len(leaves) - 1, len(leaves) + 1):
        with pytest.raises(InvalidInput):
            read_entries(write_entries(leaves), wrong)


def test_an_entry_stands_behind_its_length_in_two_bytes() -> None:
    assert write_entries([b"", b"abc"]) == b"\0\0\0\3abc"
    assert len(write_entries([b"x" * 65_535])) == 65_537
    with pytest.raises(InvalidInput):
        write_entries([b"x" * 65_536])


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1", b"\0\0\0", b"\0\5abc", b"\0\0\0\0"])
def test_half_a_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_entries(data, 1)


def test_a_leaf_of_a_bundle_hashes_into_its_tile() -> None:
    leaves = [b"%d" % n for n in range(300)]
    made = TileTree()
    made.extend([leaf_hash(leaf) for leaf in leaves])
    second = read_entries(write_entries(leaves[256:]), 44)
    assert made.hashes(Tile(0, 1, 44)) == b"".join(map(leaf_hash, second))
