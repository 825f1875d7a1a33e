"""Opening the ledger's SQLite file, and what its failures mean in one line."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import exc

from loop4.errors import LedgerError

_ADVICE = {
    "SQLITE_BUSY": "another process held its write lock too long; try again, or stop that process",
    "SQLITE_LOCKED": "another connection holds its write lock; try again",
    "SQLITE_FULL": "the disk is full and nothing was written; free space and run `loop4 resume`",
    "SQLITE_READONLY": "it cannot be written; check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check that it exists and may be read and written",
    "SQLITE_PERM": "access is not permitted; check the permissions of the file",
    "SQLITE_NOTADB": "it is not an SQLite database; name another data folder or restore the file",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a copy",
    "SQLITE_IOERR": "the disk refused to read or write and nothing was written; check disk space",
}


def explain(path: Path, error: Exception) -> LedgerError:
    """Return the one-line error that stands for a failure of the database."""
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return LedgerError(f"ledger {str(path)!r}: a value cannot be stored ({error})")
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
    name = str(getattr(cause, "sqlite_errorname", ""))
    for prefix, advice in _ADVICE.items():
        if name.startswith(prefix):
            return LedgerError(f"ledger {str(path)!r}: {advice} ({cause})")
    return LedgerError(f"ledger {str(path)!r}: {' '.join(str(cause).split())}")


def connect(path: Path, *, read_only: bool, busy_timeout_s: float) -> sqlite3.Connection:
    """Return a connection in WAL mode with `synchronous=FULL` that begins nothing by itself."""
    uri = "file:" + quote(str(path.absolute())) + f"?mode={'ro' if read_only else 'rwc'}"
    if read_only and _is_still(path):
        uri += "&immutable=1"
    connection = sqlite3.connect(
        uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False
    )
    # bytes that are no UTF-8 were put there by somebody else; `evidence.verify` names the record
    connection.text_factory = _text
    try:
        if not read_only:
            _switch_to_wal(connection, path, busy_timeout_s)
        connection.execute(f"PRAGMA busy_timeout={round(busy_timeout_s * 1000)}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _is_still(path: Path) -> bool:
    """True for a copy on read-only ground without a writer, where WAL files cannot be made."""
    return not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()


def _switch_to_wal(connection: sqlite3.Connection, path: Path, busy_timeout_s: float) -> None:
    # The first switch needs the file alone. SQLite's own waiting makes processes that open a new
    # file together block each other for seconds (seen: 8 s), so each try gives way at once.
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise LedgerError(
            f"ledger {str(path)!r}: its file system offers journal mode {mode!r}, "
            "expected 'wal'; name a data folder on a local disk"
        )
