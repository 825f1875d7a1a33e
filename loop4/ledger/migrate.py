"""Bringing an older ledger to the present schema: in one transaction, with its evidence verified
before and after, and for a file with a verified copy first.

Alembic runs the scripts in `migrations/` inside the ledger's own transaction, so that a crash
leaves the old version or the new one.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import exc, text, update
from sqlalchemy.engine import Connection

from loop4.errors import LedgerError
from loop4.ledger import evidence, schema
from loop4.ledger.database import Database
from loop4.ledger.ledger import Ledger, Tx, version_of
from loop4.ledger.place import is_url
from loop4.ledger.runner import RunnerLock

_SCRIPTS = Path(__file__).with_name("migrations")


@dataclass(frozen=True, slots=True)
class Status:
    """A ledger's schema version, the one that this Loop4 reads, and its number of records."""

    name: str
    version: int
    newest: int
    records: int

    @property
    def is_current(self) -> bool:
        """Whether this Loop4 can open it as it is."""
        return self.version == self.newest


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did. `backup` is None for PostgreSQL and when there was nothing to do."""

    name: str
    before: int
    after: int
    records: int
    backup: Path | None


def status(place: Path | str) -> Status:
    """The state of the ledger at a place, of any version. Changes nothing."""
    with Ledger.open_any(place, read_only=True) as ledger, ledger.read() as tx:
        return Status(ledger.name, _number(ledger, tx), schema.SCHEMA_VERSION, _records(tx))


def migrate(place: Path | str, *, stamp: str) -> Migrated:
    """Bring the ledger at a place to the present version; a current one is left alone.

    `stamp` goes into the name of a file's copy. Raises RunnerBusy while a runner holds the folder,
    and LedgerError for a newer version, for evidence that does not verify, and for a disk without
    room; the ledger then is as it was.
    """
    if is_url(place):
        return _migrate(place, stamp)
    folder = Path(place).parent
    if not Path(place).is_file():
        raise LedgerError(f"ledger {str(place)!r}: there is no such file; name the folder of a run")
    with RunnerLock(folder):
        return _migrate(place, stamp)


def upgrade(connection: Connection, to: str = "head") -> None:
    """Run the scripts up to a revision on an open transaction. It is left open."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def stamp_revision(connection: Connection, version: int) -> None:
    """Note a version where Alembic looks for it, unless something is noted there already."""
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    )
    noted = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if noted and list(noted) != [f"{version:04}"]:
        raise LedgerError(
            f"the ledger says schema version {version}, its table alembic_version says "
            f"{', '.join(noted)}; restore it from a copy"
        )
    if not noted:
        connection.execute(
            text("INSERT INTO alembic_version (version_num) VALUES (:of)"), {"of": f"{version:04}"}
        )


def _migrate(place: Path | str, stamp: str) -> Migrated:
    with Ledger.open_any(place) as ledger, ledger.any_transaction() as tx:
        before = _number(ledger, tx)
        if before > schema.SCHEMA_VERSION:
            raise LedgerError(
                f"{ledger.name} has schema version {before}, newer than this Loop4 knows "
                f"({schema.SCHEMA_VERSION}); use the Loop4 that wrote it"
            )
        head = _verified(ledger, tx)
        if before == schema.SCHEMA_VERSION:
            return Migrated(ledger.name, before, before, _records(tx), None)
        backup = None if is_url(place) else _copied(Path(place), stamp, head)
        _run(ledger.database, tx, before)
        if _verified(ledger, tx) != head:
            raise LedgerError(f"{ledger.name}: the evidence changed on the way; nothing was kept")
        return Migrated(ledger.name, before, schema.SCHEMA_VERSION, _records(tx), backup)


def _run(database: Database, tx: Tx, before: int) -> None:
    try:
        stamp_revision(tx.connection, before)
        upgrade(tx.connection)
    except exc.SQLAlchemyError as error:
        raise database.explain(error) from error
    tx.change(
        update(schema.meta)
        .where(schema.meta.c.key == "schema_version")
        .values(value=str(schema.SCHEMA_VERSION))
    )


def _copied(path: Path, stamp: str, head: str) -> Path:
    """A copy of the file beside it, on the disk and read back: its chain ends in `head`."""
    copy = path.with_name(f"{path.name}.before-{stamp}")
    if copy.exists():
        raise LedgerError(f"the copy {str(copy)!r} is there already; move it away")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        descriptor = os.open(copy, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (sqlite3.Error, OSError) as error:
        copy.unlink(missing_ok=True)
        raise LedgerError(
            f"the copy {str(copy)!r} cannot be written: {error}; free space, nothing was changed"
        ) from error
    with Ledger.open_any(copy, read_only=True) as ledger, ledger.read() as tx:
        if _verified(ledger, tx) != head:
            raise LedgerError(f"the copy {str(copy)!r} differs from the ledger; try again")
    return copy


def _verified(ledger: Ledger, tx: Tx) -> str:
    report = evidence.verify(tx)
    if not report.ok:
        raise LedgerError(f"{ledger.name}: {report.problem}; it is not migrated")
    return f"{report.records}:{report.head}"


def _records(tx: Tx) -> int:
    return len(tx.rows(schema.evidence.select().with_only_columns(schema.evidence.c.seq)))


def _number(ledger: Ledger, tx: Tx) -> int:
    found = version_of(tx)
    if not found.isdecimal():
        raise LedgerError(f"{ledger.name} has schema version {found!r}, expected a number")
    return int(found)
