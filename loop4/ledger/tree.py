"""The Merkle tree of RFC 6962 over a list that only grows: roots, and proofs against a root.

A leaf is hashed with a zero byte before it, a node with a one byte, so neither passes for the
other. All hashes are 32 raw bytes. The tree of size n splits at the largest power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()
_HASH_BYTES = 32
_MOST_STEPS = 64  # a proof of 2**64 records has that many


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees as one."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Range:
    """A tree of which only the peaks are kept, so that appending costs one hash on average.

    The peaks are the roots of the full subtrees, one for each bit of the size, largest first.
    Raises ValueError for peaks that no tree of that size has.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count() or any(len(peak) != _HASH_BYTES for peak in peaks):
            raise ValueError(f"a tree of size {size} has {size.bit_count()} peaks of 32 bytes")
        self._peaks = list(peaks)
        self.size = size

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the full subtrees, largest first."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        full, carried = self.size, leaf
        while full & 1:
            carried = node_hash(self._peaks.pop(), carried)
            full >>= 1
        self._peaks.append(carried)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of what was appended so far."""
        if not self._peaks:
            return EMPTY_ROOT
        *rest, root = self._peaks
        for peak in reversed(rest):
            root = node_hash(peak, root)
        return root


def inclusion_proofs(leaves: Sequence[bytes], wanted: Iterable[int]) -> dict[int, list[bytes]]:
    """Return for each wanted index (from 0) the siblings from its leaf up to the root.

    One pass over the tree, however many are wanted. Raises IndexError for an index outside.
    """
    proofs: dict[int, list[bytes]] = {index: [] for index in wanted}
    if any(not 0 <= index < len(leaves) for index in proofs):
        raise IndexError(f"an index lies outside of {len(leaves)} leaves")
    level = list(leaves)
    places = {index: index for index in proofs}
    while len(level) > 1:
        for index, place in places.items():
            sibling = place ^ 1
            if sibling < len(level):  # the last of an odd level moves up as it is
                proofs[index].append(level[sibling])
            places[index] = place >> 1
        paired = [node_hash(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) & ~1 :]
    return proofs


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether the leaf stands at `index` (from 0) in the tree of that size and root.

    RFC 9162, section 2.1.3.2. A proof of the wrong shape is no proof.
    """
    if not 0 <= index < size or len(proof) > _MOST_STEPS:
        return False
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0 or len(sibling) != _HASH_BYTES:
            return False
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root
