"""Signed checkpoints: what they show that the chain alone cannot."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop4.errors import EvidenceError, InputError, Loop4Error, UsageError
from loop4.ledger import checkpoints, evidence, second_place, signing
from loop4.ledger.checkpoints import checkpoint_if_due, checkpoint_now, compare
from loop4.ledger.export_write import write_export
from loop4.ledger.ledger import Ledger
from loop4.ledger.signing import Signer
from loop4.ledger.statements import sign_checkpoint
from loop4.ledger.tree import leaf_hash
from tests.ledger.test_tree import naive_root

EVERY_S = 60


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return signing.generate_keys(folder(tmp_path, "keys"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return folder(tmp_path, "elsewhere")


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in a file, which these tests tamper with."""
    with Ledger.open(tmp_path / "ledger.db") as opened:
        yield opened


def folder(root: Path, name: str) -> Path:
    made = root / name
    made.mkdir(exist_ok=True)
    return made


def append(ledger: Ledger, count: int, note: str = "") -> None:
    with ledger.transaction() as tx:
        for number in range(count):
            evidence.append(tx, "note", "I", "", {"number": number, "note": note}, at_ms=number)


def export(ledger: Ledger, signer: Signer, out: Path, place: Path | None = None) -> None:
    with ledger.read() as tx:
        write_export(tx, signer, out, 1, folder=place)


def problem(ledger: Ledger, *signers: Signer, place: Path | None = None) -> str:
    with ledger.read() as tx:
        copies = second_place.copies_in(place) if place else ()
        return compare(tx, [signer.public for signer in signers], copies).problem


def sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    drop = "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
    for (statement,) in connection.execute(drop).fetchall():
        connection.execute(statement)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_checkpoint_signs_the_root_over_all_records_so_far(
    ledger: Ledger, signer: Signer
) -> None:
    for size in (3, 4, 9):
        with ledger.read() as tx:
            have = len(evidence.list_records(tx))
        append(ledger, size - have)
        signed = checkpoint_now(ledger, signer, 1000 + size)
        assert signed is not None
        with ledger.read() as tx:
            digests = [record.digest for record in evidence.list_records(tx)]
            assert checkpoints.latest(tx) == signed
            assert signed.origin == checkpoints.origin(tx)
        assert (signed.size, signed.at_ms) == (size, 1000 + size)
        assert signed.root == naive_root([bytes.fromhex(digest) for digest in digests]).hex()
        assert signed.fault(signer.public) == ""
    assert problem(ledger, signer) == ""


def test_nothing_is_due_without_new_records_or_before_its_time(
    ledger: Ledger, signer: Signer
) -> None:
    def due(now_ms: int) -> int | None:
        signed = checkpoint_if_due(ledger, signer, now_ms, EVERY_S)
        return signed.size if signed else None

    assert due(0) is None  # an empty chain
    append(ledger, 2)
    assert due(1_000_000) == 2
    append(ledger, 1)
    assert due(1_000_000 + EVERY_S * 1000 - 1) is None
    assert due(1_000_000 + EVERY_S * 1000) == 3
    assert due(9_000_000) is None  # nothing new
    append(ledger, 1)
    assert due(5_000) == 4  # the clock jumped back: that is no reason to wait


def test_a_copy_lies_in_the_second_place_and_is_written_again_if_it_went_missing(
    ledger: Ledger, signer: Signer, elsewhere: Path
) -> None:
    append(ledger, 3)
    signed = checkpoint_if_due(ledger, signer, 0, EVERY_S, folder=elsewhere)
    (copy,) = elsewhere.iterdir()
    assert second_place.read_file(copy) == signed
    copy.unlink()
    assert checkpoint_if_due(ledger, signer, 1, EVERY_S, folder=elsewhere) is None
    (again,) = elsewhere.iterdir()
    assert second_place.read_file(again) == signed
    assert problem(ledger, signer, place=elsewhere) == ""


def test_nothing_is_signed_while_the_second_place_cannot_be_read(
    ledger: Ledger, signer: Signer, elsewhere: Path
) -> None:
    append(ledger, 1)
    shutil.rmtree(elsewhere)
    with pytest.raises(Loop4Error, match="cannot be read: No such file"):
        checkpoint_now(ledger, signer, 0, folder=elsewhere)
    with ledger.read() as tx:
        assert checkpoints.list_all(tx) == ()


def test_a_second_place_that_cannot_be_written_is_said_and_mended_at_the_next_look(
    ledger: Ledger, signer: Signer, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ledger, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("loop4.ledger.durable_file.os.fsync", full)
        with pytest.raises(Loop4Error, match="cannot be written: No space left"):
            checkpoint_now(ledger, signer, 0, folder=elsewhere)
    assert list(elsewhere.iterdir()) == []  # no part of it is left
    assert checkpoint_if_due(ledger, signer, 1, EVERY_S, folder=elsewhere) is None
    assert len(list(elsewhere.iterdir())) == 1


def test_the_second_place_must_exist_and_lie_outside_the_data_folder(tmp_path: Path) -> None:
    data, inside = folder(tmp_path, "data"), folder(tmp_path, "data/copies")
    link = tmp_path / "link"
    link.symlink_to(inside)
    for wrong in (data, inside, link, data / ".." / "data"):
        with pytest.raises(UsageError, match="lies in the data folder"):
            second_place.check_second_place(wrong, data)
    with pytest.raises(UsageError, match="does not exist"):
        second_place.check_second_place(tmp_path / "mount", data)
    assert second_place.check_second_place(tmp_path, data) == tmp_path


def test_a_ledger_set_back_to_a_copy_is_found_by_the_second_place_and_nothing_is_signed_over_it(
    tmp_path: Path, signer: Signer, elsewhere: Path
) -> None:
    data = folder(tmp_path, "data")
    path, backup = data / "ledger.db", tmp_path / "backup.db"
    with Ledger.open(path) as ledger:
        append(ledger, 5)
        checkpoint_now(ledger, signer, 1, folder=elsewhere)
    shutil.copy(path, backup)
    with Ledger.open(path) as ledger:
        append(ledger, 5)
        checkpoint_now(ledger, signer, 2, folder=elsewhere)
    shutil.copy(backup, path)
    with Ledger.open(path) as ledger:
        with ledger.read() as tx:
            assert evidence.verify(tx).ok  # the chain itself cannot know
        assert "its end was cut or it was rolled back" in problem(ledger, signer, place=elsewhere)
        with pytest.raises(EvidenceError, match="was rolled back; nothing is signed over it"):
            checkpoint_now(ledger, signer, 3, folder=elsewhere)
        append(ledger, 9, "written anew")
        assert problem(ledger, signer) == ""
        found = problem(ledger, signer, place=elsewhere)
        assert "the first 10 records are not those that it signs" in found
        with pytest.raises(EvidenceError, match="the first 10 records are not those"):
            checkpoint_now(ledger, signer, 3, folder=elsewhere)
        with pytest.raises(EvidenceError, match="the first 10 records are not those"):
            export(ledger, signer, tmp_path / "export.jsonl", elsewhere)
        assert not (tmp_path / "export.jsonl").exists()
        assert len(list(elsewhere.iterdir())) == 2
        with ledger.read() as tx:
            assert len(checkpoints.list_all(tx)) == 1


def test_a_ledger_put_in_anothers_place_is_found_and_not_signed(
    tmp_path: Path, signer: Signer, elsewhere: Path
) -> None:
    with Ledger.open(folder(tmp_path, "data") / "ledger.db") as ledger:
        append(ledger, 5)
        checkpoint_now(ledger, signer, 1, folder=elsewhere)
    with Ledger.open(folder(tmp_path, "other") / "ledger.db") as ledger:
        append(ledger, 9, "invented")
        assert "it is of another ledger" in problem(ledger, signer, place=elsewhere)
        said = r"it is of another ledger.*nothing is signed"
        with pytest.raises(EvidenceError, match=said):
            checkpoint_now(ledger, signer, 2, folder=elsewhere)
        with pytest.raises(EvidenceError, match=said):
            checkpoint_if_due(ledger, signer, 2, EVERY_S, folder=elsewhere)
        with pytest.raises(EvidenceError, match=said):
            export(ledger, signer, tmp_path / "export.jsonl", elsewhere)
        with ledger.read() as tx:
            assert checkpoints.list_all(tx) == ()
    assert len(list(elsewhere.iterdir())) == 1


def test_a_copy_that_our_key_did_not_sign_does_not_stop_the_signing(
    ledger: Ledger, signer: Signer, elsewhere: Path, tmp_path: Path
) -> None:
    append(ledger, 3)
    with ledger.read() as tx:
        name = checkpoints.origin(tx)
    stranger = signing.generate_keys(folder(tmp_path, "stranger"))
    forged = sign_checkpoint(stranger, name, 99, b"\0" * 32, 1)
    second_place.copy_to(elsewhere, forged)
    signed = checkpoint_now(ledger, signer, 2, folder=elsewhere)
    assert signed is not None
    assert signed.size == 3
    assert "signed with another key" in problem(ledger, signer, place=elsewhere)


def test_a_forged_row_of_the_ledger_does_not_hide_what_the_second_place_knows(
    tmp_path: Path, signer: Signer, elsewhere: Path
) -> None:
    path = folder(tmp_path, "data") / "ledger.db"
    stranger = signing.generate_keys(folder(tmp_path, "stranger"))
    with Ledger.open(path) as ledger:
        append(ledger, 5)
        checkpoint_now(ledger, signer, 1, folder=elsewhere)
        sql(
            path,
            "DELETE FROM evidence",
            "DELETE FROM checkpoints",
            "DELETE FROM meta WHERE key IN ('evidence_head', 'evidence_peaks')",
            "DELETE FROM sqlite_sequence",
        )
        append(ledger, 9, "invented")
        checkpoint_now(ledger, stranger, 2)  # root and peaks fit, the key is not ours
        append(ledger, 1)
        with pytest.raises(EvidenceError, match="the first 5 records are not those"):
            checkpoint_now(ledger, signer, 3, folder=elsewhere)


def test_a_chain_that_was_rebuilt_is_found_by_the_ledgers_own_checkpoint(
    tmp_path: Path, signer: Signer
) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        append(ledger, 6)
        checkpoint_now(ledger, signer, 1)
        sql(
            path,
            "DELETE FROM evidence",
            "DELETE FROM meta WHERE key IN ('evidence_head', 'evidence_peaks')",
            "DELETE FROM sqlite_sequence",
        )
        append(ledger, 8, "invented")
        with ledger.read() as tx:
            assert evidence.verify(tx).ok
        assert "the first 6 records are not those that it signs" in problem(ledger, signer)
        with pytest.raises(EvidenceError, match="nothing is signed over them"):
            checkpoint_now(ledger, signer, 2)
        sql(path, "DELETE FROM evidence WHERE seq > 3")
        with pytest.raises(EvidenceError, match="rolled back; nothing is signed"):
            checkpoint_now(ledger, signer, 3)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE checkpoints SET root = '{zeros}'", "its signature does not fit"),
        ("UPDATE checkpoints SET size = 2", "its signature does not fit"),
        ("UPDATE checkpoints SET at_ms = 5", "its signature does not fit"),
        ("UPDATE checkpoints SET signature = 'x'", "its signature does not fit"),
        ("UPDATE checkpoints SET key_id = '{zeros}'", "signed with another key"),
    ],
)
def test_a_changed_checkpoint_is_found(
    filed: Ledger, signer: Signer, tmp_path: Path, statement: str, said: str
) -> None:
    append(filed, 3)
    checkpoint_now(filed, signer, 1)
    sql(tmp_path / "ledger.db", statement.format(zeros="0" * 64))
    assert said in problem(filed, signer)


def test_peaks_that_somebody_changed_are_not_believed(
    filed: Ledger, signer: Signer, tmp_path: Path
) -> None:
    append(filed, 3)
    first = checkpoint_now(filed, signer, 1)
    assert first is not None
    forged = json.dumps([leaf_hash(b"x").hex()] * 2)
    for value in (forged, "[1]", "x", "[]"):
        sql(
            tmp_path / "ledger.db",
            f"UPDATE meta SET value = '{value}' WHERE key = 'evidence_peaks'",  # noqa: S608
        )
        append(filed, 1)
        assert checkpoint_now(filed, signer, 2) is not None
        assert problem(filed, signer) == ""


def test_a_new_key_goes_on_where_the_old_one_ended(
    ledger: Ledger, signer: Signer, tmp_path: Path
) -> None:
    append(ledger, 3)
    checkpoint_now(ledger, signer, 1)
    append(ledger, 2)
    new = signing.generate_keys(folder(tmp_path, "new"))
    signed = checkpoint_now(ledger, new, 2)
    assert signed is not None
    assert signed.fault(new.public) == ""
    assert problem(ledger, signer, new) == ""
    assert problem(ledger) == ""  # the roots fit; signatures are not looked at
    assert "signed with another key" in problem(ledger, new)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is not usable JSON"),
        (b"[]", "expected an object"),
        (b"{}", "is missing"),
        (b"\xff", "it is not UTF-8"),
        (b"x" * 5000, "more than 4096 bytes"),
        (b'{"size": 1, "size": 2}', "stands twice"),
        (b'{"size": NaN}', "NaN is no number"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(
    tmp_path: Path, body: bytes, said: str
) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_bytes(body)
    with pytest.raises(InputError, match=said) as caught:
        second_place.read_file(path)
    assert "\n" not in str(caught.value)


def test_keys_are_new_private_and_checked(tmp_path: Path) -> None:
    keys = folder(tmp_path, "keys")
    made = signing.generate_keys(keys)
    private, public = keys / signing.PRIVATE_NAME, keys / signing.PUBLIC_NAME
    assert private.stat().st_mode & 0o777 == 0o600
    assert signing.load_signer(private).public.key_id == made.public.key_id
    assert signing.load_public_key(public).key_id == made.public.key_id
    assert "PRIVATE" not in repr(made)
    before = private.read_bytes()
    with pytest.raises(UsageError, match="exists and is not overwritten"):
        signing.generate_keys(keys)
    assert private.read_bytes() == before
    private.chmod(0o640)
    with pytest.raises(InputError, match="may be read or changed by others"):
        signing.load_signer(private)
    with pytest.raises(InputError, match=r"expected an Ed25519 public key.*this is a private key"):
        signing.load_public_key(private)
    public.chmod(0o600)
    with pytest.raises(InputError, match="expected an unencrypted Ed25519 private key"):
        signing.load_signer(public)
    for missing in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            signing.load_signer(missing)
    with pytest.raises(UsageError, match="is no folder"):
        signing.generate_keys(tmp_path / "nowhere")
