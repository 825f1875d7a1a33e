"""The tree against RFC 6962 as its text defines it, naively, and against known roots."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.ledger.tree import EMPTY_ROOT, Range, inclusion_proofs, is_included, leaf_hash

# The eight entries and roots that implementations of RFC 6962 have long been tested with.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def naive_root(entries: Sequence[bytes]) -> bytes:
    """MTH of section 2.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    left, right = naive_root(entries[:split]), naive_root(entries[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def naive_path(index: int, entries: Sequence[bytes]) -> list[bytes]:
    """PATH of section 2.1.1, word for word."""
    if len(entries) == 1:
        return []
    split = 1
    while split * 2 < len(entries):
        split *= 2
    if index < split:
        return [*naive_path(index, entries[:split]), naive_root(entries[split:])]
    return [*naive_path(index - split, entries[split:]), naive_root(entries[:split])]


def grown(entries: Sequence[bytes]) -> Range:
    tree = Range()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


@pytest.mark.parametrize("size", ROOTS)
def test_the_known_roots_come_out(size: int) -> None:
    assert grown(ENTRIES[:size]).root().hex() == ROOTS[size]
    assert naive_root(ENTRIES[:size]).hex() == ROOTS[size]


ENTRY_LISTS = st.lists(st.binary(max_size=4), max_size=70)


@given(ENTRY_LISTS)
def test_growing_gives_the_root_that_the_definition_gives(entries: list[bytes]) -> None:
    assert grown(entries).root() == naive_root(entries)


@given(ENTRY_LISTS.filter(bool), st.data())
def test_each_proof_is_the_path_of_the_definition_and_proves_its_leaf_alone(
    entries: list[bytes], data: st.DataObject
) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    index = data.draw(st.integers(0, len(entries) - 1))
    root, size = naive_root(entries), len(entries)
    proof = inclusion_proofs(leaves, range(size))[index]
    assert proof == naive_path(index, entries)
    assert is_included(leaves[index], index, size, proof, root)
    assert not is_included(leaf_hash(b"other entry"), index, size, proof, root)
    assert not is_included(leaves[index], index, size, [*proof, b"\0" * 32], root)
    assert not is_included(leaves[index], size, size, proof, root)
    if proof:
        assert not is_included(leaves[index], index, size, proof[:-1], root)
        assert not is_included(leaves[index], index, size, [b"short", *proof[1:]], root)


@given(ENTRY_LISTS, ENTRY_LISTS)
def test_a_tree_goes_on_from_its_peaks(before: list[bytes], after: list[bytes]) -> None:
    tree = grown(before)
    again = Range(tree.size, tree.peaks)
    for entry in after:
        again.append(leaf_hash(entry))
    assert again.root() == naive_root([*before, *after])


@pytest.mark.parametrize(("size", "peaks"), [(1, []), (3, [b"x" * 32]), (1, [b"x" * 31])])
def test_peaks_that_no_tree_has_are_refused(size: int, peaks: list[bytes]) -> None:
    with pytest.raises(ValueError, match="peaks of 32 bytes"):
        Range(size, peaks)


def test_an_index_outside_has_no_proof() -> None:
    with pytest.raises(IndexError):
        inclusion_proofs([EMPTY_ROOT], [1])
