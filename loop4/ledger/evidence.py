"""The evidence chain: what was seen, decided, done and measured, each record hashed onto the last.

The digest of a record covers every column but itself. A head row (sequence, digest, count) in
`meta` shows a cut tail. Who owns the file can still rebuild chain and head together: only a copy
of the head kept elsewhere shows that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ScalarSelect, Select, bindparam, func, insert, select
from sqlalchemy.engine import RowMapping

from loop4.domain import Json, JsonObject
from loop4.errors import EvidenceError, LedgerError
from loop4.ledger import redaction
from loop4.ledger.chain import GENESIS, record_digest
from loop4.ledger.jsontext import decode, decode_object, encode
from loop4.ledger.ledger import Tx
from loop4.ledger.prepared import Prepared
from loop4.ledger.schema import evidence, meta, sqlite_sequence
from loop4.ledger.upsert import insert_or_update

_HEAD = "evidence_head"
_BATCH = 1000


def _meta_value(key: str) -> ScalarSelect[str]:
    return select(meta.c.value).where(meta.c.key == key).scalar_subquery()


# Built once: `append` is the hot path of the ledger, and building a statement costs more than
# running it.
_LAST = select(evidence.c.seq, evidence.c.digest).order_by(evidence.c.seq.desc()).limit(1)
_END = Prepared(
    select(
        _meta_value(_HEAD),
        _meta_value("salt"),
        _LAST.with_only_columns(evidence.c.seq).scalar_subquery(),
        _LAST.with_only_columns(evidence.c.digest).scalar_subquery(),
    )
)
_SALT = Prepared(select(_meta_value("salt")))
_INSERT = Prepared(insert(evidence))
_ALL = select(evidence).order_by(evidence.c.seq)
_OF = _ALL.where(evidence.c.incident_id == bindparam("of"))
_PUT_HEAD = Prepared(insert_or_update(meta, "key", changing=["value"]))


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One link of the chain. `previous` is the digest of the record before it."""

    seq: int
    previous: str
    digest: str
    kind: str
    incident_id: str
    run_id: str
    action_id: str
    trace_id: str
    at_ms: int
    body: JsonObject


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a walk along the chain found. `first_bad_seq` is 0 when all is well.

    `head` is the digest of the last good record: note "records:head" elsewhere as an anchor.
    """

    ok: bool
    records: int
    first_bad_seq: int
    problem: str
    head: str


@dataclass(frozen=True, slots=True)
class _Head:
    seq: int
    digest: str
    count: int


def append(
    tx: Tx,
    kind: str,
    incident_id: str,
    run_id: str,
    body: JsonObject,
    *,
    at_ms: int,
    action_id: str = "",
    trace_id: str = "",
) -> EvidenceRecord:
    """Add one record to the chain and return it as stored: secrets in `body` are salted hashes.

    Raises EvidenceError if the end of the chain is not what was written last: nothing is added to
    a broken chain.
    """
    head, grain = _end_of_chain(tx)
    text = encode(redaction.redact(body, grain), f"evidence of kind {kind!r}")
    columns: dict[str, str | int] = {
        "seq": head.seq + 1,
        "previous": head.digest,
        "kind": kind,
        "incident_id": incident_id,
        "run_id": run_id,
        "action_id": action_id,
        "trace_id": trace_id,
        "at_ms": at_ms,
        "body": text,
    }
    columns["digest"] = record_digest(columns)
    tx.change(_INSERT, columns)
    _set_head(tx, _Head(head.seq + 1, str(columns["digest"]), head.count + 1))
    return _record(columns)


def verify(tx: Tx, anchors: Mapping[int, str] | None = None) -> VerifyReport:
    """Walk the whole chain and name the first record that is not as it was written, if any.

    `anchors` are sequence -> digest as noted outside earlier; they also show a chain that was
    rebuilt as a whole.
    """
    previous, seq = GENESIS, 0
    for row in _rows(tx):
        seq += 1
        problem = _problem(row, seq, previous)
        if not problem and (anchors or {}).get(seq, row["digest"]) != row["digest"]:
            problem = f"evidence record {seq} was replaced: its anchor has another digest"
        if problem:
            return VerifyReport(False, _count(tx), seq, problem, previous)
        previous = row["digest"]
    longest = max(anchors or {}, default=0)
    bad_seq, problem = _check_end(tx, seq, previous, longest)
    return VerifyReport(not problem, _count(tx), bad_seq, problem, previous)


def list_records(
    tx: Tx, incident_id: str | None = None, kinds: Collection[str] | None = None
) -> tuple[EvidenceRecord, ...]:
    """Return records in order, all or those of one incident and of the given kinds."""
    statement, values = (_ALL, {}) if incident_id is None else (_OF, {"of": incident_id})
    if kinds is not None:
        statement = statement.where(evidence.c.kind.in_(sorted(kinds)))
    return tuple(_record(row) for row in tx.rows(statement, values))


def list_after(tx: Tx, seq: int, *, kinds: Collection[str]) -> tuple[EvidenceRecord, ...]:
    """Return the records of these kinds behind `seq`, in order: for who follows the chain."""
    statement = _ALL.where(evidence.c.seq > bindparam("after"), evidence.c.kind.in_(sorted(kinds)))
    return tuple(_record(row) for row in tx.rows(statement, {"after": seq}))


def get(tx: Tx, seq: int) -> EvidenceRecord | None:
    """Return one record, or None."""
    row = tx.row(select(evidence).where(evidence.c.seq == seq))
    return _record(row) if row is not None else None


def redacted(tx: Tx, value: JsonObject) -> JsonObject:
    """Return `value` with its secrets replaced by hashes under this ledger's salt."""
    masked = redaction.redact(value, salt(tx))
    return masked if isinstance(masked, dict) else {}


def redacted_text(tx: Tx, text: str) -> str:
    """Return one text with its secrets replaced by hashes under this ledger's salt."""
    return redaction.redact_text(text, salt(tx))


def salt(tx: Tx) -> bytes:
    """Return what this ledger puts before each secret that it hashes; it stays in the ledger."""
    ((found,),) = tx.tuples(_SALT)
    return _salt(found)


def redacted_words(tx: Tx, words: Mapping[str, str]) -> dict[str, str]:
    """Return words from outside, by name, with secrets and addresses as salted hashes."""
    grain = salt(tx)
    return {
        name: redaction.redact_outside(str(text), grain)
        for name, text in cast("Mapping[str, Json]", redaction.redact(dict(words), grain)).items()
    }


def _problem(row: RowMapping, seq: int, previous: str) -> str:
    if row["seq"] != seq:
        return f"evidence record {seq} is missing (the next one found is {row['seq']})"
    try:
        expected = record_digest(row)
    except ValueError:
        return f"evidence record {seq} was changed: a column holds what the ledger never writes"
    if row["digest"] != expected:
        return f"evidence record {seq} was changed: its content does not match its digest"
    if row["previous"] != previous:
        return f"evidence record {seq} was replaced: it does not follow record {seq - 1}"
    return ""


def _check_end(tx: Tx, seq: int, last_digest: str, anchored: int) -> tuple[int, str]:
    """The bad sequence and problem, (0, "") if the chain ends where head and anchors say."""
    try:
        head = _head(tx)
    except LedgerError as error:
        return max(seq, 1), str(error)
    length = max(head.seq, anchored, _highest_given(tx))
    if length > seq:
        return seq + 1, f"evidence record {seq + 1} is missing: there were {length} records"
    if head.seq < seq:
        return head.seq + 1, f"evidence record {head.seq + 1} was not appended by the ledger"
    if head.digest != last_digest:
        return seq, f"evidence record {seq} was replaced: the head of the chain has another digest"
    if head.count != seq:
        return max(seq, 1), f"the chain has {seq} records, its head says {head.count}"
    return 0, ""


def _end_of_chain(tx: Tx) -> tuple[_Head, bytes]:
    """The head, checked against the last record, and the salt: one query, for `append` is hot."""
    ((text, grain, seq, digest),) = tx.tuples(_END)
    found = (seq, digest) if seq is not None else (0, GENESIS)
    if isinstance(seq, int) and text == _head_text(seq, str(digest)):
        return _Head(seq, str(digest), seq), _salt(grain)
    head = _parse_head(text, is_empty=seq is None)
    if found != (head.seq, head.digest):
        raise EvidenceError(
            f"evidence record {head.seq} is not the one that was written last; "
            "nothing is added to a broken chain: run `loop4 evidence verify`"
        )
    return head, _salt(grain)


def _head(tx: Tx) -> _Head:
    row = tx.row(select(_meta_value(_HEAD).label("head")))
    return _parse_head(row["head"] if row else None, is_empty=_count(tx) == 0)


def _parse_head(text: str | int | None, *, is_empty: bool) -> _Head:
    if text is None and is_empty:
        return _Head(0, GENESIS, 0)
    if text is None:
        raise EvidenceError("the head of the evidence chain is gone")
    match decode(str(text), "the head of the evidence chain"):
        case {"seq": int(seq), "digest": str(digest), "count": int(count)}:
            return _Head(seq, digest, count)
    raise EvidenceError(f"the head of the evidence chain was changed: {text!r}")


def _salt(text: str | int | None) -> bytes:
    if not isinstance(text, str) or not text:
        raise EvidenceError("the ledger has lost its salt; restore the file from a copy")
    return text.encode()


def _set_head(tx: Tx, head: _Head) -> None:
    if head.count == head.seq:
        value = _head_text(head.seq, head.digest)
    else:
        value = encode({"seq": head.seq, "digest": head.digest, "count": head.count}, "the head")
    tx.change(_PUT_HEAD, {"key": _HEAD, "value": value})


def _head_text(seq: int, digest: str) -> str:
    """The canonical text of the head of a sound chain: as many records as the last one's number."""
    return f'{{"count":{seq},"digest":"{digest}","seq":{seq}}}'


def _count(tx: Tx) -> int:
    row = tx.row(select(func.count().label("n")).select_from(evidence))
    return int(row["n"]) if row else 0


def _highest_given(tx: Tx) -> int:
    """The highest sequence that SQLite ever gave; 0 on PostgreSQL, which does not remember."""
    if tx.dialect != "sqlite":
        return 0
    row = tx.row(select(sqlite_sequence.c.seq).where(sqlite_sequence.c.name == evidence.name))
    return int(row["seq"]) if row else 0


def _rows(tx: Tx) -> Iterator[RowMapping]:
    statement: Select[tuple[object, ...]] = select(evidence).order_by(evidence.c.seq).limit(_BATCH)
    batch = tx.rows(statement)
    while batch:
        yield from batch
        batch = tx.rows(statement.where(evidence.c.seq > batch[-1]["seq"]))


def _record(row: Mapping[str, str | int] | RowMapping) -> EvidenceRecord:
    seq = int(row["seq"])
    return EvidenceRecord(
        seq=seq,
        previous=str(row["previous"]),
        digest=str(row["digest"]),
        kind=str(row["kind"]),
        incident_id=str(row["incident_id"]),
        run_id=str(row["run_id"]),
        action_id=str(row["action_id"]),
        trace_id=str(row["trace_id"]),
        at_ms=int(row["at_ms"]),
        body=decode_object(str(row["body"]), f"evidence record {seq}"),
    )
