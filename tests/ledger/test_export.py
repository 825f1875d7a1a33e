"""An export in a stranger's hands: each tampering is named, each hostile file refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop4.canonical import canonical_bytes
from loop4.domain import Json
from loop4.errors import EvidenceError, InputError, UsageError
from loop4.ledger import checkpoints, evidence, signing
from loop4.ledger.chain import GENESIS, record_digest
from loop4.ledger.checkpoints import checkpoint_now
from loop4.ledger.export_check import ExportReport, check_export
from loop4.ledger.export_lines import Tampering
from loop4.ledger.export_write import write_export
from loop4.ledger.ledger import Ledger
from loop4.ledger.signing import Signer
from loop4.ledger.statements import Checkpoint, sign_checkpoint, sign_excerpt
from loop4.ledger.tree import Range, leaf_hash
from tests.ledger.test_checkpoints import append, folder, sql

RECORDS = 12
Lines = list[dict[str, Json]]
Tamper = Callable[[Lines, Signer], Lines]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def signer(root: Path) -> Signer:
    return signing.generate_keys(folder(root, "keys"))


@pytest.fixture(scope="module")
def other(root: Path) -> Signer:
    return signing.generate_keys(folder(root, "other"))


@pytest.fixture(scope="module")
def filled(root: Path) -> Iterator[Ledger]:
    with Ledger.open(root / "ledger.db") as opened:
        with opened.transaction() as tx:
            for number in range(RECORDS):
                body: dict[str, Json] = {"number": number, "password": "hunter2-hunter2"}
                evidence.append(tx, "note", f"INC-{number % 3}", "run", body, at_ms=number)
        yield opened


@pytest.fixture(scope="module")
def whole(root: Path, filled: Ledger, signer: Signer) -> Path:
    return exported(filled, signer, root / "whole.jsonl")


@pytest.fixture(scope="module")
def part(root: Path, filled: Ledger, signer: Signer) -> Path:
    return exported(filled, signer, root / "part.jsonl", "INC-1")


def exported(ledger: Ledger, signer: Signer, path: Path, incident: str = "") -> Path:
    with ledger.read() as tx:
        write_export(tx, signer, path, 1000, incident_id=incident)
    return path


def lines_of(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, lines: Lines) -> Path:
    path.write_bytes(b"".join(canonical_bytes(line) + b"\n" for line in lines))
    return path


def record(line: dict[str, Json]) -> dict[str, Json]:
    columns = line["record"]
    assert isinstance(columns, dict)
    return columns


def check(path: Path, signer: Signer, *kept: Checkpoint) -> ExportReport:
    named = [(f"checkpoint {number}", one) for number, one in enumerate(kept)]
    return check_export(path, [signer.public], named)


def test_an_export_holds_every_column_and_ends_with_a_signed_checkpoint(
    whole: Path, filled: Ledger, signer: Signer
) -> None:
    header, *records, last = lines_of(whole)
    assert set(header) == {"loop4_evidence"}
    with filled.read() as tx:
        stored = evidence.list_records(tx)
        name = checkpoints.origin(tx)
    for line, kept in zip(records, stored, strict=True):
        columns = record(line)
        assert json.loads(str(columns.pop("body"))) == kept.body
        assert columns == {key: getattr(kept, key) for key in columns}
    assert set(last) == {"checkpoint"}
    assert b"hunter2" not in whole.read_bytes()
    report = check(whole, signer)
    assert (report.tampering, report.records, report.problem) == (None, RECORDS, "")
    assert report.signed is not None
    assert (report.signed.origin, report.signed.size) == (name, RECORDS)


def test_an_export_of_one_incident_proves_that_its_records_are_in_the_signed_chain(
    part: Path, whole: Path, signer: Signer
) -> None:
    report, everything = check(part, signer), check(whole, signer)
    assert (report.tampering, report.records, report.incident_id) == (None, 4, "INC-1")
    assert report.signed is not None
    assert everything.signed is not None
    assert report.signed.root == everything.signed.root
    assert [record(line)["seq"] for line in lines_of(part)[1:-2]] == [2, 5, 8, 11]


def edited(lines: Lines, signer: Signer) -> Lines:
    record(lines[5])["body"] = '{"number":99}'
    return lines


def edited_with_its_digest(lines: Lines, signer: Signer) -> Lines:
    columns = record(lines[5])
    columns["kind"] = "other"
    columns["digest"] = digest_of(columns)
    return lines


def removed(lines: Lines, signer: Signer) -> Lines:
    return [*lines[:5], *lines[6:]]


def reordered(lines: Lines, signer: Signer) -> Lines:
    return [*lines[:5], lines[6], lines[5], *lines[7:]]


def doubled(lines: Lines, signer: Signer) -> Lines:
    return [*lines[:6], lines[5], *lines[6:]]


def without_its_end(lines: Lines, signer: Signer) -> Lines:
    return lines[:-1]


def cut_before_its_checkpoint(lines: Lines, signer: Signer) -> Lines:
    return [*lines[:-3], lines[-1]]


def rebuilt(lines: Lines, signer: Signer) -> Lines:
    """Every digest made anew behind the edit; the old signature stays."""
    record(lines[5])["body"] = '{"number":99}'
    return rechained(lines)


def rebuilt_and_signed_by_another(lines: Lines, other: Signer) -> Lines:
    lines = rebuilt(lines, other)
    return [*lines[:-1], {"checkpoint": signed_over(lines[1:-1], other).as_json()}]


def rebuilt_and_signed_in_the_owners_name(lines: Lines, other: Signer) -> Lines:
    key_id = head(lines)["key_id"]
    lines = rebuilt_and_signed_by_another(lines, other)
    head(lines)["key_id"] = key_id
    return lines


def longer_than_signed(lines: Lines, signer: Signer) -> Lines:
    columns = record(lines[-2])
    more = columns | {"seq": RECORDS + 1, "previous": columns["digest"]}
    more["digest"] = digest_of(more)
    return [*lines[:-1], {"record": more}, lines[-1]]


def more_behind_the_end(lines: Lines, signer: Signer) -> Lines:
    return [*lines, lines[1]]


def another_size(lines: Lines, signer: Signer) -> Lines:
    head(lines)["size"] = RECORDS - 2
    return cut_before_its_checkpoint(lines, signer)


def another_ledger(lines: Lines, signer: Signer) -> Lines:
    header = lines[0]["loop4_evidence"]
    assert isinstance(header, dict)
    header["origin"] = "loop4-" + "0" * 32
    return lines


def head(lines: Lines) -> dict[str, Json]:
    fields = lines[-1]["checkpoint"]
    assert isinstance(fields, dict)
    return fields


def digest_of(columns: dict[str, Json]) -> str:
    return record_digest({k: v for k, v in columns.items() if isinstance(v, str | int)})


def rechained(lines: Lines) -> Lines:
    previous = GENESIS
    for line in lines[1:-1]:
        columns = record(line)
        columns["previous"] = previous
        previous = columns["digest"] = digest_of(columns)
    return lines


def signed_over(lines: Lines, signer: Signer) -> Checkpoint:
    tree = Range()
    for line in lines:
        tree.append(leaf_hash(bytes.fromhex(str(record(line)["digest"]))))
    return sign_checkpoint(signer, "loop4-" + "0" * 32, tree.size, tree.root(), 1000)


@pytest.mark.parametrize(
    ("tamper", "named", "seq"),
    [
        (edited, Tampering.EDITED, 5),
        (edited_with_its_digest, Tampering.EDITED, 6),
        (removed, Tampering.REMOVED, 5),
        (reordered, Tampering.REORDERED, 5),
        (doubled, Tampering.REORDERED, 5),
        (without_its_end, Tampering.TRUNCATED, 0),
        (cut_before_its_checkpoint, Tampering.TRUNCATED, 10),
        (rebuilt, Tampering.FORGED, 0),
        (rebuilt_and_signed_by_another, Tampering.OTHER_KEY, 0),
        (rebuilt_and_signed_in_the_owners_name, Tampering.FORGED, 0),
        (longer_than_signed, Tampering.ADDED, 13),
        (more_behind_the_end, Tampering.ADDED, 0),
        (another_size, Tampering.FORGED, 0),
        (another_ledger, Tampering.FORGED, 0),
    ],
)
def test_each_tampering_is_named_and_the_record_too(
    whole: Path,
    root: Path,
    signer: Signer,
    other: Signer,
    tamper: Tamper,
    named: Tampering,
    seq: int,
) -> None:
    path = written(root / "tampered.jsonl", tamper(lines_of(whole), other))
    report = check(path, signer)
    assert (report.tampering, report.seq) == (named, seq), report.problem
    assert "\n" not in report.problem


def part_edited(lines: Lines, signer: Signer) -> Lines:
    record(lines[2])["body"] = "{}"
    return lines


def part_forged(lines: Lines, signer: Signer) -> Lines:
    columns = record(lines[2])
    columns["body"] = "{}"
    columns["digest"] = digest_of(columns)
    return lines


def part_without_one(lines: Lines, signer: Signer) -> Lines:
    return [*lines[:2], *lines[3:]]


def part_reordered(lines: Lines, signer: Signer) -> Lines:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def part_with_its_word_by_another(lines: Lines, other: Signer) -> Lines:
    word = lines[-2]["excerpt"]
    assert isinstance(word, dict)
    tree = Range()
    for line in lines[2:-2]:
        tree.append(leaf_hash(bytes.fromhex(str(record(line)["digest"]))))
    again = sign_excerpt(other, str(word["origin"]), RECORDS, "INC-1", tree.size, tree.root())
    return [lines[0], *lines[2:-2], {"excerpt": again.as_json()}, lines[-1]]


def part_without_its_word(lines: Lines, signer: Signer) -> Lines:
    return [*lines[:2], *lines[3:-2], lines[-1]]


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (part_edited, Tampering.EDITED),
        (part_forged, Tampering.FORGED),
        (part_without_one, Tampering.REMOVED),
        (part_reordered, Tampering.REORDERED),
        (without_its_end, Tampering.TRUNCATED),
        (part_without_its_word, Tampering.TRUNCATED),
        (part_with_its_word_by_another, Tampering.OTHER_KEY),
        (more_behind_the_end, Tampering.ADDED),
    ],
)
def test_tampering_with_the_export_of_an_incident_is_named(
    part: Path, root: Path, signer: Signer, other: Signer, tamper: Tamper, named: Tampering
) -> None:
    path = written(root / "tampered.jsonl", tamper(lines_of(part), other))
    report = check(path, signer)
    assert report.tampering is named, report.problem


def test_the_key_of_another_does_not_verify(whole: Path, other: Signer) -> None:
    assert check(whole, other).tampering is Tampering.OTHER_KEY


def test_a_ledger_that_was_set_back_does_not_fit_a_checkpoint_that_was_kept(
    tmp_path: Path, signer: Signer, whole: Path
) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        append(ledger, 4)
        old = checkpoint_now(ledger, signer, 1)
        first = exported(ledger, signer, tmp_path / "first.jsonl")
        append(ledger, 3)
        kept = checkpoint_now(ledger, signer, 2)
        assert old is not None
        assert kept is not None
        good = exported(ledger, signer, tmp_path / "good.jsonl")
        report = check(good, signer, old, kept)
        assert (report.tampering, report.agreeing) == (None, 2)
        assert check(first, signer, kept).tampering is Tampering.ROLLED_BACK
        with pytest.raises(InputError, match="is of ledger"):
            check(whole, signer, kept)
        sql(
            path,
            "DELETE FROM evidence",
            "DELETE FROM checkpoints",
            "DELETE FROM meta WHERE key IN ('evidence_head', 'evidence_peaks')",
            "DELETE FROM sqlite_sequence",
        )
        append(ledger, 9, "written anew")
        anew = exported(ledger, signer, tmp_path / "anew.jsonl")
    assert check(anew, signer).tampering is None  # whoever has the key can lie about the past
    report = check(anew, signer, kept)  # but not to somebody who kept a checkpoint
    assert report.tampering is Tampering.ROLLED_BACK
    assert "the first 7 records are not those" in report.problem


def test_the_export_of_an_incident_fits_a_checkpoint_of_the_same_size_only(
    part: Path, filled: Ledger, signer: Signer
) -> None:
    with filled.read() as tx:
        name = checkpoints.origin(tx)
    signed = check(part, signer).signed
    assert signed is not None
    assert check(part, signer, signed).agreeing == 1
    older = sign_checkpoint(signer, name, 3, b"\0" * 32, 1)
    with pytest.raises(InputError, match="ask for an export of everything"):
        check(part, signer, older)
    longer = sign_checkpoint(signer, name, 99, b"\0" * 32, 1)
    assert check(part, signer, longer).tampering is Tampering.ROLLED_BACK
    elsewise = sign_checkpoint(signer, name, RECORDS, b"\0" * 32, 1)
    assert check(part, signer, elsewise).tampering is Tampering.ROLLED_BACK


def test_nothing_is_exported_from_a_broken_chain_or_of_an_unknown_incident(
    tmp_path: Path, signer: Signer
) -> None:
    path, out = tmp_path / "ledger.db", tmp_path / "out.jsonl"
    out.write_text("earlier")
    with Ledger.open(path) as ledger:
        append(ledger, 5)
        with pytest.raises(UsageError, match="no evidence of incident 'NOPE'"):
            exported(ledger, signer, out, "NOPE")
        checkpoint_now(ledger, signer, 1)
        sql(path, "UPDATE evidence SET at_ms = 99 WHERE seq = 3")
        with pytest.raises(EvidenceError, match="record 3 is not as it was written; nothing was"):
            exported(ledger, signer, out)
        sql(path, "UPDATE evidence SET at_ms = 2 WHERE seq = 3", "DELETE FROM evidence WHERE seq>3")
        with pytest.raises(EvidenceError, match="3 records, but 5 were signed before"):
            exported(ledger, signer, out)
    assert out.read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir() if "part" in p.name) == []


def test_an_empty_chain_is_exported_and_verified_as_such(
    ledger: Ledger, tmp_path: Path, signer: Signer
) -> None:
    report = check(exported(ledger, signer, tmp_path / "empty.jsonl"), signer)
    assert (report.tampering, report.records) == (None, 0)


HEADER = b'{"loop4_evidence":{"incident_id":"","key_id":"","origin":"","version":1}}\n'
HOSTILE_FIRST = {
    "empty": (b"", "is no evidence export"),
    "not json": (b"hello\n", "not usable JSON"),
    "gzip": (gzip.compress(HEADER * 1000), "compressed with gzip; unpack it first"),
    "binary": (b"\x00\xff\xfe", "not UTF-8"),
    "array": (b"[1]\n", "expected an object"),
    "deep": (b"[" * 100_000, "nested too deeply"),
    "other file": (b'{"a":1}\n', "is no evidence export"),
    "other version": (HEADER.replace(b"1}}", b"2}}"), "format version 2, this Loop4 reads 1"),
    "twice": (b'{"loop4_evidence":1,"loop4_evidence":2}\n', "stands twice"),
    "true": (HEADER.replace(b"1}}", b"true}}"), "expected a whole number"),
    "extra": (HEADER.replace(b'"version"', b'"x":1,"version"'), "unknown field 'x'"),
}


@pytest.mark.parametrize("name", HOSTILE_FIRST)
def test_a_file_that_is_no_export_is_refused_in_one_line(
    tmp_path: Path, signer: Signer, name: str
) -> None:
    body, said = HOSTILE_FIRST[name]
    path = tmp_path / "hostile"
    path.write_bytes(body)
    with pytest.raises(InputError, match=said) as caught:
        check(path, signer)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


HOSTILE_LATER = {
    "not json": b"hello\n",
    "nan": b'{"record":NaN}\n',
    "infinite": b'{"record":-Infinity}\n',
    "huge number": b'{"record":' + b"9" * 5000 + b"}\n",
    "deep": b'{"record":' + b"[" * 100_000 + b"\n",
    "twice": b'{"record":1,"record":2}\n',
    "null": b"null\n",
    "wrong type": b'{"record":[]}\n',
    "no columns": b'{"record":{}}\n',
    "unknown line": b'{"note":{}}\n',
    "checkpoint of nothing": b'{"checkpoint":{}}\n',
    "checkpoint as text": b'{"checkpoint":"x"}\n',
    "lone surrogate": b'{"record":"\\ud800"}\n',
}


@pytest.mark.parametrize("name", HOSTILE_LATER)
def test_a_hostile_line_is_named_as_damage(
    tmp_path: Path, whole: Path, signer: Signer, name: str
) -> None:
    first, rest = whole.read_bytes().split(b"\n", 1)
    path = tmp_path / "hostile"
    path.write_bytes(first + b"\n" + HOSTILE_LATER[name] + rest)
    report = check(path, signer)
    assert (report.tampering, report.line) == (Tampering.DAMAGED, 2), report.problem
    assert "\n" not in report.problem
    assert len(report.problem) < 400


@pytest.mark.parametrize(
    ("column", "value"),
    [("seq", True), ("seq", 1.0), ("seq", -1), ("at_ms", "0"), ("at_ms", 2**60), ("body", None)],
)
def test_a_column_of_another_type_is_damage(
    tmp_path: Path, whole: Path, signer: Signer, column: str, value: object
) -> None:
    lines = whole.read_text().splitlines()
    first = json.loads(lines[1])
    first["record"][column] = value
    path = tmp_path / "hostile"
    path.write_text("\n".join([lines[0], json.dumps(first), *lines[2:]]))
    assert check(path, signer).tampering is Tampering.DAMAGED


def test_a_body_that_no_ledger_writes_is_an_edit(
    tmp_path: Path, whole: Path, signer: Signer
) -> None:
    lines = lines_of(whole)
    record(lines[1])["body"] = "\ud800"
    path = tmp_path / "hostile"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert check(path, signer).tampering is Tampering.EDITED


def test_a_line_without_end_is_not_read_into_memory(signer: Signer) -> None:
    with pytest.raises(InputError, match="is longer than 16777216 bytes"):
        check(Path("/dev/zero"), signer)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(cut=st.integers(0, 10_000_000))
def test_a_file_that_was_cut_anywhere_never_verifies(
    tmp_path: Path, whole: Path, signer: Signer, cut: int
) -> None:
    body = whole.read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(body[: cut % (len(body) - 1)])  # the last newline may go
    try:
        report = check(path, signer)
    except InputError:
        return
    assert report.tampering is Tampering.TRUNCATED, report.problem


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(place=st.integers(0, 10_000_000), flip=st.integers(1, 255))
def test_no_changed_byte_goes_unseen(
    tmp_path: Path, whole: Path, part: Path, signer: Signer, place: int, flip: int
) -> None:
    for source in (whole, part):
        body = bytearray(source.read_bytes())
        body[place % len(body)] ^= flip
        path = tmp_path / "flipped"
        path.write_bytes(body)
        try:
            report = check(path, signer)
        except InputError:
            continue
        if report.tampering is None:  # a space for a newline at the very end means the same
            values = [json.loads(line) for line in bytes(body).splitlines()]
            assert values == [json.loads(line) for line in source.read_bytes().splitlines()]
