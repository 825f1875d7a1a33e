"""Signed checkpoints of the evidence: kept in the ledger, and copied to a second place.

A hash chain alone cannot show that its end was cut, and who owns the database can rebuild it as a
whole. A signed head that lies where that person cannot write shows both. The second place is a
folder outside the data folder: a mount, a clone that is pushed, a synced bucket.

Signing reads only what is new: the peaks of the tree are kept beside the last checkpoint and count
only if they give its signed root.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.engine import RowMapping

from loop4.errors import EvidenceError, LedgerError
from loop4.ledger.chain import leaf_of
from loop4.ledger.jsontext import decode, encode
from loop4.ledger.ledger import Ledger, Tx
from loop4.ledger.schema import checkpoints, evidence, meta
from loop4.ledger.second_place import OF_ANOTHER, copy_to, newest_copy
from loop4.ledger.signing import PublicKey, Signer
from loop4.ledger.statements import Checkpoint, sign_checkpoint
from loop4.ledger.tree import Range

_PEAKS = "evidence_peaks"
_BATCH = 10_000

_VALUE = select(meta.c.value).where(meta.c.key == bindparam("of"))
_LENGTH = select(func.coalesce(func.max(evidence.c.seq), 0).label("n"))
_DIGESTS = (
    select(evidence.c.seq, evidence.c.digest)
    .where(evidence.c.seq > bindparam("after"))
    .order_by(evidence.c.seq)
    .limit(_BATCH)
)
_ALL = select(checkpoints).order_by(checkpoints.c.size)
_LATEST = select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class AnchorReport:
    """What comparing the chain with its signed heads found. `problem` is empty if all is well.

    `in_ledger` and `copies` say how many heads were compared, `latest` is the largest good one.
    """

    problem: str
    in_ledger: int
    copies: int
    latest: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Signing:
    """Who signs the evidence of a fleet, and the second place; None if there is none."""

    signer: Signer
    folder: Path | None


def origin(tx: Tx) -> str:
    """Return the name of this ledger in all that it signs. It does not change and tells nothing."""
    row = tx.row(_VALUE, {"of": "salt"})
    if row is None or not row["value"]:
        raise EvidenceError("the ledger has lost its salt; restore the file from a copy")
    return "loop4-" + hmac.new(row["value"].encode(), b"origin", hashlib.sha256).hexdigest()[:32]


def checkpoint_if_due(
    ledger: Ledger, signer: Signer, now_ms: int, every_s: int, *, folder: Path | None = None
) -> Checkpoint | None:
    """Sign the chain as it stands if the last signing is `every_s` away; None if nothing was due.

    Nothing is due while no record is new. A clock that jumped back by more than `every_s` is no
    reason to wait. With a `folder`, a copy that is missing there is written in any case.
    """
    with ledger.read() as tx:
        last, length = latest(tx), _length(tx)
    if last is not None and abs(now_ms - last.at_ms) < every_s * 1000 and length >= last.size:
        if folder is not None:
            copy_to(folder, last)
        return None
    signed = checkpoint_now(ledger, signer, now_ms, folder=folder)
    return None if signed is None or signed == last else signed


def checkpoint_now(
    ledger: Ledger, signer: Signer, now_ms: int, *, folder: Path | None = None
) -> Checkpoint | None:
    """Sign the chain as it stands, store that, copy it to `folder`, and return it.

    Without new records it is the last checkpoint; None for an empty chain. Raises EvidenceError,
    with nothing signed, if the chain no longer is what was signed before and more: by the ledger's
    last checkpoint, and by the longest copy of ours in the folder.
    """
    with ledger.read() as tx:
        last, name = latest(tx), origin(tx)
        known = known_heads(last, folder, name, signer.public)
        grown = grown_range(tx, last, signer.public, known)
    if not grown.size:
        return None
    if last is None or grown.size > last.size:
        signed = sign_checkpoint(signer, name, grown.size, grown.root(), now_ms)
        with ledger.transaction() as tx:
            last = latest(tx)
            if last is None or last.size < signed.size:
                _put(tx, signed, grown)
                last = signed
    if folder is not None:
        copy_to(folder, last)
    return last


def known_heads(
    last: Checkpoint | None, folder: Path | None, name: str, key: PublicKey
) -> dict[int, str]:
    """Return sizes and roots that the chain must have had: what the ledger and the folder say.

    Copies that `key` did not sign say nothing. Raises EvidenceError for a folder that keeps another
    ledger's checkpoints: it may be this ledger that was put in the other's place.
    """
    known = {} if last is None else {last.size: last.root}
    copy = newest_copy(folder, name) if folder is not None else None
    if copy is None or copy.fault(key):
        return known
    if known.setdefault(copy.size, copy.root) != copy.root:
        raise _unlike(copy.size)
    return known


def grown_range(
    tx: Tx, last: Checkpoint | None, key: PublicKey | None, known: Mapping[int, str]
) -> Range:
    """Return the tree of the whole chain.

    Starts from the stored peaks if they give the root of `last` and `key` signed that, else from
    the first record. Raises EvidenceError if the chain is not what `known` says (sizes and their
    roots) and more.
    """
    longest = max(known, default=0)
    if _length(tx) < longest:
        raise EvidenceError(
            f"the chain has {_length(tx)} records, but {longest} were signed before: it was "
            "rolled back; nothing is signed over it, run `loop4 evidence verify`"
        )
    grown = _trusted(tx, last, key) or Range()
    for leaf in leaves(tx, after=grown.size):
        grown.append(leaf)
        check_known(grown, known)
    return grown


def check_known(grown: Range, known: Mapping[int, str]) -> None:
    """Raise EvidenceError if a tree of this size was signed before with another root."""
    root = known.get(grown.size)
    if root is not None and grown.root().hex() != root:
        raise _unlike(grown.size)


def _unlike(size: int) -> EvidenceError:
    return EvidenceError(
        f"the first {size} records are not those that were signed before; "
        "nothing is signed over them, run `loop4 evidence verify`"
    )


def leaves(tx: Tx, *, after: int = 0) -> Iterator[bytes]:
    """Yield the leaf hashes of all records after that sequence, in order.

    Raises EvidenceError at the first that is missing or damaged.
    """
    seq = after
    while batch := tx.rows(_DIGESTS, {"after": seq}):
        for row in batch:
            seq += 1
            if row["seq"] != seq:
                raise EvidenceError(f"evidence record {seq} is missing")
            try:
                yield leaf_of(row["digest"])
            except (TypeError, ValueError) as error:
                raise EvidenceError(f"evidence record {seq} has no digest") from error


def latest(tx: Tx) -> Checkpoint | None:
    """Return the checkpoint of the longest chain, or None."""
    found = _read(tx, tx.rows(_LATEST))
    return found[0] if found else None


def list_all(tx: Tx) -> tuple[Checkpoint, ...]:
    """Return all checkpoints of the ledger, shortest first."""
    return _read(tx, tx.rows(_ALL))


def compare(
    tx: Tx, keys: Sequence[PublicKey], copies: Iterable[tuple[str, Checkpoint]] = ()
) -> AnchorReport:
    """Compare the chain with every checkpoint of the ledger and with the copies given.

    Each must be signed with one of the keys. Without a key, signatures are not checked: then a
    checkpoint shows mistakes, not an attacker.
    """
    stored, given, name = list_all(tx), tuple(copies), origin(tx)
    heads = [(f"checkpoint of {c.size} records in the ledger", c) for c in stored]
    heads += [(f"checkpoint {where!r}", c) for where, c in given]
    heads.sort(key=lambda head: head[1].size)
    grown, rest, good = Range(), leaves(tx), None
    for where, head in heads:
        fault = OF_ANOTHER if head.origin != name else ""
        fault = fault or (head.fault(*keys) if keys else "")
        if not fault:
            _extend(grown, rest, head.size)
            fault = _difference(head, grown)
        if fault:
            return AnchorReport(f"{where}: {fault}", len(stored), len(given), good)
        good = head
    return AnchorReport("", len(stored), len(given), good)


def _extend(grown: Range, rest: Iterator[bytes], size: int) -> None:
    while grown.size < size:
        leaf = next(rest, None)
        if leaf is None:
            return
        grown.append(leaf)


def _difference(head: Checkpoint, grown: Range) -> str:
    if grown.size < head.size:
        return (
            f"it signs {head.size} records, the chain has {grown.size}: its end was cut or it was "
            "rolled back"
        )
    if grown.root().hex() != head.root:
        return f"the first {head.size} records are not those that it signs: the chain was rebuilt"
    return ""


def _length(tx: Tx) -> int:
    row = tx.row(_LENGTH)
    return int(row["n"]) if row else 0


def _read(tx: Tx, rows: Sequence[RowMapping]) -> tuple[Checkpoint, ...]:
    if not rows:
        return ()
    name = origin(tx)
    return tuple(
        Checkpoint(name, row["size"], row["root"], row["at_ms"], row["key_id"], row["signature"])
        for row in rows
    )


def _put(tx: Tx, signed: Checkpoint, grown: Range) -> None:
    row = insert(checkpoints).values(
        size=signed.size,
        root=signed.root,
        key_id=signed.key_id,
        signature=signed.signature,
        at_ms=signed.at_ms,
    )
    tx.change(row)
    peaks = encode([peak.hex() for peak in grown.peaks], "the peaks of the evidence")
    if not tx.change(update(meta).where(meta.c.key == _PEAKS).values(value=peaks)):
        tx.change(insert(meta).values(key=_PEAKS, value=peaks))


def _trusted(tx: Tx, last: Checkpoint | None, key: PublicKey | None) -> Range | None:
    """The tree at `last`, if what is stored of it gives the root that our own key signed."""
    row = tx.row(_VALUE, {"of": _PEAKS})
    if row is None or last is None or key is None or last.fault(key):
        return None
    try:
        stored = decode(row["value"], "the peaks of the evidence")
        peaks = [bytes.fromhex(str(peak)) for peak in stored] if isinstance(stored, list) else []
        grown = Range(last.size, peaks)
    except (LedgerError, ValueError):
        return None
    return grown if grown.root().hex() == last.root else None
