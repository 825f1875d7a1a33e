"""Checking an evidence export: needs the public key, no database and no organisation's files.

Trust comes from two places only: the key the reader was handed, and checkpoints that the reader
kept. Nothing in the file is believed before it fits them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loop4.errors import InputError
from loop4.ledger import tree
from loop4.ledger.chain import GENESIS, leaf_of, record_digest
from loop4.ledger.export_lines import (
    CHECKPOINT,
    EXCERPT,
    LINE_BYTES,
    PROOF,
    RECORD,
    Fault,
    Header,
    Line,
    Tampering,
    read_header,
    read_lines,
    read_proof,
    read_record,
    read_statement,
)
from loop4.ledger.signing import PublicKey
from loop4.ledger.statements import Checkpoint, Excerpt, checkpoint_from, excerpt_from


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export is worth. `tampering` is None if all is well; `seq` and `line` say where, 0 if
    nowhere in particular.

    `records` are in the file, `signed` is the head of the whole chain that they were checked
    against (None if it was not reached), `agreeing` the number of kept checkpoints that fit.
    """

    tampering: Tampering | None
    problem: str
    incident_id: str
    records: int
    signed: Checkpoint | None
    agreeing: int
    seq: int = 0
    line: int = 0


def check_export(
    path: Path, keys: Sequence[PublicKey], kept: Sequence[tuple[str, Checkpoint]] = ()
) -> ExportReport:
    """Read an export once; say whether an owner of these keys signed it so, or what was done to it.

    `kept` are checkpoints that the reader has from elsewhere, with what to call them. Raises
    InputError for a file that is no evidence export and for a checkpoint of another ledger.
    """
    try:
        with path.open("rb") as file:
            lines = read_lines(iter(lambda: file.readline(LINE_BYTES + 1), b""), str(path))
            header = read_header(next(lines, None), str(path))
            reader = _Whole(kept) if not header.incident_id else _Incident(header.incident_id)
            return _checked(reader, lines, header, keys, kept)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be read ({error.strerror or error}); expected an export of "
            "`loop4 evidence export`"
        ) from error


def _checked(
    reader: _Whole | _Incident,
    lines: Iterator[Line],
    header: Header,
    keys: Sequence[PublicKey],
    kept: Sequence[tuple[str, Checkpoint]],
) -> ExportReport:
    signed = None
    try:
        for where, checkpoint in kept:
            _check_kept(where, checkpoint, header, keys)
        signed = _read_all(reader, lines, header, keys)
        reader.finish(signed)
        agreeing = reader.compare(signed, kept)
    except Fault as fault:
        return ExportReport(
            fault.tampering,
            fault.problem,
            header.incident_id,
            reader.records,
            signed,
            0,
            fault.seq,
            fault.line,
        )
    return ExportReport(None, "", header.incident_id, reader.records, signed, agreeing)


def _read_all(
    reader: _Whole | _Incident, lines: Iterator[Line], header: Header, keys: Sequence[PublicKey]
) -> Checkpoint:
    for line in lines:
        if set(line.fields) == {CHECKPOINT}:
            signed = read_statement(checkpoint_from, line, CHECKPOINT)
            _check_signature(signed, "the checkpoint at the end", header, keys, line.number)
            after = next(lines, None)
            if after is not None:
                raise Fault(
                    Tampering.ADDED,
                    f"line {after.number} stands behind the signed checkpoint",
                    line=after.number,
                )
            return signed
        if set(line.fields) == {EXCERPT} and isinstance(reader, _Incident):
            word = read_statement(excerpt_from, line, EXCERPT)
            _check_signature(word, "the word on the excerpt", header, keys, line.number)
            reader.word = word
            continue
        reader.take(line, lines)
    raise Fault(
        Tampering.TRUNCATED,
        f"it ends after {reader.records} records without its signed checkpoint",
    )


class _Whole:
    """The whole chain: each record follows the one before, and the signed root covers all."""

    def __init__(self, kept: Sequence[tuple[str, Checkpoint]]) -> None:
        self._grown = tree.Range()
        self._previous = GENESIS
        self._wanted = {checkpoint.size for _, checkpoint in kept}
        self._roots = {0: tree.EMPTY_ROOT.hex()}

    @property
    def records(self) -> int:
        """How many were good so far."""
        return self._grown.size

    def take(self, line: Line, rest: Iterator[Line]) -> None:
        """Check the next record."""
        record = read_record(line, {RECORD})
        seq, expected = int(record["seq"]), self._grown.size + 1
        if seq != expected:
            raise _misplaced(seq, expected, line, rest)
        _check_digest(record, line)
        if record["previous"] != self._previous:
            raise Fault(
                Tampering.EDITED,
                f"record {seq} does not follow record {seq - 1}: one of them was rewritten",
                seq,
                line.number,
            )
        self._previous = str(record["digest"])
        self._grown.append(leaf_of(self._previous))
        if seq in self._wanted:
            self._roots[seq] = self._grown.root().hex()

    def finish(self, signed: Checkpoint) -> None:
        """Compare what was read with the signed head."""
        found = self._grown.size
        if found < signed.size:
            raise Fault(
                Tampering.TRUNCATED,
                f"{signed.size} records were signed, the file ends with record {found}",
                found,
            )
        if found > signed.size:
            raise Fault(
                Tampering.ADDED,
                f"{signed.size} records were signed, the file has {found}",
                signed.size + 1,
            )
        if self._grown.root().hex() != signed.root:
            raise Fault(
                Tampering.FORGED,
                f"the {found} records fit each other, but they are not those that were signed: the "
                "chain was rebuilt",
            )

    def compare(self, signed: Checkpoint, kept: Sequence[tuple[str, Checkpoint]]) -> int:
        """Compare with kept checkpoints and return how many fit."""
        for where, checkpoint in kept:
            if checkpoint.size > signed.size:
                raise Fault(
                    Tampering.ROLLED_BACK,
                    f"{where} signs {checkpoint.size} records, this export has {signed.size}: it "
                    "is older than that, or the ledger was set back",
                )
            if self._roots[checkpoint.size] != checkpoint.root:
                raise Fault(
                    Tampering.ROLLED_BACK,
                    f"the first {checkpoint.size} records are not those that {where} signs: the "
                    "ledger was set back and written anew",
                )
        return len(kept)


class _Incident:
    """Records of one incident: each has a proof against the signed root of the whole chain."""

    def __init__(self, incident_id: str) -> None:
        self._incident_id = incident_id
        self._found: list[tuple[int, int, bytes, list[bytes]]] = []
        self.word: Excerpt | None = None

    @property
    def records(self) -> int:
        """How many were read so far."""
        return len(self._found)

    def take(self, line: Line, rest: Iterator[Line]) -> None:
        """Check the next record as far as it can be without the root."""
        record = read_record(line, {RECORD, PROOF})
        seq = int(record["seq"])
        if self._found and seq <= self._found[-1][0]:
            raise Fault(
                Tampering.REORDERED,
                f"record {seq} stands behind record {self._found[-1][0]}",
                seq,
                line.number,
            )
        _check_digest(record, line)
        if record["incident_id"] != self._incident_id:
            raise Fault(
                Tampering.ADDED,
                f"record {seq} is not of incident {self._incident_id!r}",
                seq,
                line.number,
            )
        leaf = leaf_of(str(record["digest"]))
        self._found.append((seq, line.number, leaf, read_proof(line)))

    def finish(self, signed: Checkpoint) -> None:
        """Check the proofs against the signed head, and the count against the signed word."""
        for seq, line, leaf, proof in self._found:
            if not tree.is_included(leaf, seq - 1, signed.size, proof, bytes.fromhex(signed.root)):
                raise Fault(Tampering.FORGED, f"record {seq} is not in the signed chain", seq, line)
        word = self.word
        if word is None:
            raise Fault(Tampering.TRUNCATED, "the signed word on the excerpt is missing")
        if (word.incident_id, word.size) != (self._incident_id, signed.size):
            raise Fault(Tampering.FORGED, "the signed word on the excerpt is of another export")
        if word.records != len(self._found):
            how = Tampering.REMOVED if len(self._found) < word.records else Tampering.ADDED
            raise Fault(how, f"{word.records} records were signed, {len(self._found)} are there")
        own = tree.Range()
        for _, _, leaf, _ in self._found:
            own.append(leaf)
        if own.root().hex() != word.root:
            raise Fault(Tampering.REMOVED, "some record was taken out and another put in")

    def compare(self, signed: Checkpoint, kept: Sequence[tuple[str, Checkpoint]]) -> int:
        """Compare with kept checkpoints of the same size; others need the whole chain."""
        for where, checkpoint in kept:
            if checkpoint.size > signed.size:
                raise Fault(
                    Tampering.ROLLED_BACK,
                    f"{where} signs {checkpoint.size} records, this export was made of "
                    f"{signed.size}: it is older than that, or the ledger was set back",
                )
            if checkpoint.size < signed.size:
                raise InputError(
                    f"{where} signs {checkpoint.size} records, this export was made of "
                    f"{signed.size}: an export of one incident cannot be compared with an older "
                    "checkpoint, ask for an export of everything"
                )
            if checkpoint.root != signed.root:
                raise Fault(
                    Tampering.ROLLED_BACK, f"{where} signs another chain of {signed.size} records"
                )
        return len(kept)


def _check_digest(record: dict[str, str | int], line: Line) -> None:
    try:
        expected = record_digest(record)
    except ValueError:
        expected = ""
    if record["digest"] != expected:
        raise Fault(
            Tampering.EDITED,
            f"the content of record {record['seq']} does not match its digest",
            int(record["seq"]),
            line.number,
        )


def _misplaced(seq: int, expected: int, line: Line, rest: Iterator[Line]) -> Fault:
    """Removed or moved? The record that should stand here is in the rest of the file or not."""
    if seq < expected:
        return Fault(
            Tampering.REORDERED,
            f"record {seq} stands behind record {expected - 1}",
            seq,
            line.number,
        )
    try:
        for later in rest:
            record = later.fields.get(RECORD)
            if isinstance(record, dict) and record.get("seq") == expected:
                return Fault(
                    Tampering.REORDERED,
                    f"record {expected} stands behind record {seq}",
                    expected,
                    later.number,
                )
    except Fault:
        pass  # what lies behind is damaged too; the first fault is the one to name
    return Fault(
        Tampering.REMOVED,
        f"record {expected} is missing; the next one is {seq}",
        expected,
        line.number,
    )


def _check_signature(
    signed: Checkpoint | Excerpt, what: str, header: Header, keys: Sequence[PublicKey], line: int
) -> None:
    fault = signed.fault(*keys)
    if fault:
        is_known = any(key.key_id == signed.key_id for key in keys)
        how = Tampering.FORGED if is_known else Tampering.OTHER_KEY
        raise Fault(how, f"{what}: {fault}", line=line)
    if (signed.origin, signed.key_id) != (header.origin, header.key_id):
        raise Fault(Tampering.FORGED, f"{what} is of another ledger or key than the first line")


def _check_kept(
    where: str, checkpoint: Checkpoint, header: Header, keys: Sequence[PublicKey]
) -> None:
    fault = checkpoint.fault(*keys)
    if fault:
        raise InputError(f"{where}: {fault}; it proves nothing")
    if checkpoint.origin != header.origin:
        raise InputError(
            f"{where} is of ledger {checkpoint.origin!r}, the export of {header.origin!r}"
        )
