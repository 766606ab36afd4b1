from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

# The tree that certificate-transparency logs have always been tested with: its leaves and the roots over the first 1 … 8 of them.
LEAVES = [
    bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def slow_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


def slow_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*slow_path(m, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(m - k, leaves[k:]), slow_root(leaves[:k])]


def some(count: int) -> list[bytes]:
    return [b"leaf %d" % n for n in range(count)]


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    assert root(HASHES[:size]).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("place", "path"), INCLUSION.items())
def test_published_inclusion_proofs(place: tuple[int, int], path: list[str]) -> None:
    index, size = place
    assert [node.hex() for node in inclusion_proof(HASHES[:size], index)] == path


@pytest.mark.parametrize(("sizes", "path"), CONSISTENCY.items())
def test_published_consistency_proofs(sizes: tuple[int, int], path: list[str]) -> None:
    earlier, size = sizes
    assert [node.hex() for node in consistency_proof(HASHES[:size], earlier)] == path


def test_the_empty_tree() -> None:
    assert root([]) == Frontier().root() == EMPTY_ROOT == slow_root([])


@pytest.mark.parametrize("size", [*range(1, 34), 63, 64, 65, 100])
def test_roots_and_paths_are_those_of_the_definition(size: int) -> None:
    leaves = some(size)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    assert root(hashes) == slow_root(leaves)
    for index in range(size):
        path = inclusion_proof(hashes, index)
        assert path == slow_path(index, leaves)
        assert verify_inclusion(hashes[index], index, size, path, root(hashes))


@pytest.mark.parametrize("size", [*range(1, 20), 33])
def test_every_earlier_tree_is_a_prefix(size: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in some(size)]
    for earlier in range(1, size + 1):
        path = consistency_proof(hashes, earlier)
        assert verify_consistency(earlier, size, root(hashes[:earlier]), root(hashes), path)


@given(st.integers(1, 70), st.data())
def test_a_proof_holds_for_its_own_leaf_place_size_and_root_only(size: int, data: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in some(size)]
    index = data.draw(st.integers(0, size - 1))
    path, top = inclusion_proof(hashes, index), root(hashes)
    other = leaf_hash(b"other")
    assert not verify_inclusion(other, index, size, path, top)
    assert not verify_inclusion(hashes[index], index, size, path, other)
    assert not verify_inclusion(hashes[index], index, size, [*path, other], top)
    for wrong in set(range(-1, size + 1)) - {index}:
        assert not verify_inclusion(hashes[index], wrong, size, path, top)
    for at in range(len(path)):
        assert not verify_inclusion(hashes[index], index, size, [*path[:at], other, *path[at + 1 :]], top)
        assert not verify_inclusion(hashes[index], index, size, path[:at] + path[at + 1 :], top)


@given(st.integers(1, 70), st.data())
def test_a_rewritten_past_is_not_consistent(size: int, data: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in some(size)]
    earlier = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, earlier - 1))
    rewritten = [*hashes[:changed], leaf_hash(b"other"), *hashes[changed + 1 :]]
    path = consistency_proof(rewritten, earlier)
    assert not verify_consistency(earlier, size, root(hashes[:earlier]), root(rewritten), path)


@pytest.mark.parametrize(("earlier", "size"), [(0, 5), (-1, 5), (6, 5), (3, 5)])
def test_an_empty_or_impossible_consistency_proof_is_refused(earlier: int, size: int) -> None:
    assert not verify_consistency(earlier, size, EMPTY_ROOT, EMPTY_ROOT, [])


@pytest.mark.parametrize("index", [-1, 8])
def test_a_leaf_outside_the_tree_has_no_proof(index: int) -> None:
    with pytest.raises(IndexError):
        inclusion_proof(HASHES, index)


@pytest.mark.parametrize("earlier", [0, 9])
def test_a_tree_that_is_no_prefix_has_no_proof(earlier: int) -> None:
    with pytest.raises(IndexError):
        consistency_proof(HASHES, earlier)


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_frontier_can_be_put_away_and_taken_up_again(first: int, then: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in some(first + then)]
    frontier = Frontier()
    for hashed in hashes[:first]:
        frontier.append(hashed)
    again = Frontier(frontier.size, frontier.peaks)
    for hashed in hashes[first:]:
        again.append(hashed)
    assert again.root() == root(hashes)
    together = Frontier()
    together.extend(hashes[:first])
    together.extend(hashes[first:])
    assert (together.size, together.peaks) == (again.size, again.peaks)


def test_a_frontier_with_the_wrong_number_of_peaks_is_refused() -> None:
    with pytest.raises(ValueError, match="peaks"):
        Frontier(3, [EMPTY_ROOT])
