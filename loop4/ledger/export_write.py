"""Writing an evidence export: checked while it is written, signed at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import bindparam, select
from sqlalchemy.engine import RowMapping

from loop4.canonical import canonical_bytes
from loop4.domain import Json
from loop4.errors import EvidenceError, UsageError
from loop4.ledger import checkpoints, tree
from loop4.ledger.chain import COLUMNS, GENESIS, leaf_of, record_digest
from loop4.ledger.durable_file import replacing
from loop4.ledger.export_lines import (
    CHECKPOINT,
    EXCERPT,
    HEADER,
    LINE_BYTES,
    PROOF,
    RECORD,
    VERSION,
)
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import evidence
from loop4.ledger.signing import Signer
from loop4.ledger.statements import Checkpoint, sign_checkpoint, sign_excerpt

_BATCH = 1000

_ROWS = (
    select(evidence)
    .where(evidence.c.seq > bindparam("after"))
    .order_by(evidence.c.seq)
    .limit(_BATCH)
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: so many records, under this signed head of the whole chain."""

    records: int
    checkpoint: Checkpoint


def write_export(
    tx: Tx,
    signer: Signer,
    path: Path,
    now_ms: int,
    *,
    incident_id: str = "",
    folder: Path | None = None,
) -> Exported:
    """Write the whole chain, or the records of one incident with their proofs, and sign it.

    The file stands complete or not at all; an earlier one stays until then. Raises EvidenceError
    if the chain does not verify or is not what was signed before (`folder` is the second place),
    UsageError for an incident without evidence: nothing is written then.
    """
    name = checkpoints.origin(tx)
    known = checkpoints.known_heads(checkpoints.latest(tx), folder, name, signer.public)
    with replacing(path) as file:
        return _write(file, tx, signer, now_ms, incident_id, known)


def _write(
    file: BinaryIO,
    tx: Tx,
    signer: Signer,
    now_ms: int,
    incident_id: str,
    known: Mapping[int, str],
) -> Exported:
    name, key_id = checkpoints.origin(tx), signer.public.key_id
    header: Json = {
        "version": VERSION,
        "origin": name,
        "key_id": key_id,
        "incident_id": incident_id,
    }
    file.write(_line({HEADER: header}))
    grown = tree.Range()
    leaves: list[bytes] = []  # of the whole chain, needed for proofs only
    chosen: list[RowMapping] = []
    for row in _verified(tx, grown, known):
        if not incident_id:
            file.write(_line({RECORD: _columns(row)}))
            continue
        leaves.append(leaf_of(row["digest"]))
        if row["incident_id"] == incident_id:
            chosen.append(row)
    signed = sign_checkpoint(signer, name, grown.size, grown.root(), now_ms)
    if incident_id:
        _write_excerpt(file, signer, signed, incident_id, leaves, chosen)
    file.write(_line({CHECKPOINT: signed.as_json()}))
    return Exported(len(chosen) if incident_id else grown.size, signed)


def _write_excerpt(
    file: BinaryIO,
    signer: Signer,
    signed: Checkpoint,
    incident_id: str,
    leaves: list[bytes],
    chosen: list[RowMapping],
) -> None:
    if not chosen:
        raise UsageError(f"no evidence of incident {incident_id!r}; `loop4 evidence show` lists it")
    proofs = tree.inclusion_proofs(leaves, [row["seq"] - 1 for row in chosen])
    own = tree.Range()
    for row in chosen:
        own.append(leaves[row["seq"] - 1])
        proof: list[Json] = [step.hex() for step in proofs[row["seq"] - 1]]
        file.write(_line({RECORD: _columns(row), PROOF: proof}))
    word = sign_excerpt(signer, signed.origin, signed.size, incident_id, own.size, own.root())
    file.write(_line({EXCERPT: word.as_json()}))


def _verified(tx: Tx, grown: tree.Range, known: Mapping[int, str]) -> Iterator[RowMapping]:
    """The records in order, each checked before anything is signed over it; `grown` follows."""
    previous, seq = GENESIS, 0
    while batch := tx.rows(_ROWS, {"after": seq}):
        for row in batch:
            seq += 1
            _check(row, seq, previous)
            previous = row["digest"]
            grown.append(leaf_of(previous))
            if seq in known and grown.root().hex() != known[seq]:
                raise _broken(f"the first {seq} records are not those that were signed before")
            yield row
    if known and seq < max(known):
        raise _broken(f"the chain has {seq} records, but {max(known)} were signed before")


def _check(row: RowMapping, seq: int, previous: str) -> None:
    try:
        is_good = row["digest"] == record_digest(row)
    except ValueError:
        is_good = False
    if row["seq"] != seq or not is_good or row["previous"] != previous:
        raise _broken(f"evidence record {seq} is not as it was written")


def _broken(problem: str) -> EvidenceError:
    return EvidenceError(f"{problem}; nothing was exported, run `loop4 evidence verify`")


def _columns(row: RowMapping) -> dict[str, Json]:
    return {name: row[name] for name in COLUMNS}


def _line(value: dict[str, Json]) -> bytes:
    line = canonical_bytes(value) + b"\n"
    if len(line) > LINE_BYTES:
        raise EvidenceError(
            f"a record is longer than {LINE_BYTES} bytes and cannot be exported; nothing was"
        )
    return line
