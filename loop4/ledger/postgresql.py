"""A ledger in one schema of a PostgreSQL database: its write lock, and what its failures mean.

Writers queue for one advisory lock and then read what is committed now (READ COMMITTED takes its
snapshot at each statement, after the lock): the same order as SQLite's write lock gives, so no
transaction is ever to be repeated. The chain of evidence has one end anyway, and nearly every
transaction extends it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, exc, text
from sqlalchemy.engine import Connection, Engine

from loop4.errors import LedgerError, LedgerUnavailable
from loop4.ledger import schema
from loop4.ledger.database import Dialect

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError as error:
    raise LedgerError(
        "a ledger in PostgreSQL needs the driver: pip install 'loop4[postgres]'"
    ) from error

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

SCHEMA = "loop4"
WRITE_LOCK = int.from_bytes(b"loop4")  # of pg_advisory_xact_lock, within one database
_EXPECTED = "expected postgresql+psycopg://USER@HOST/DATABASE"
_OLDEST = 130_000

# A writer that stops inside a transaction (frozen, or its machine gone) must not keep the lock.
_FROZEN_S = 10
_STATEMENT_S = 120
_CONNECT = {
    "connect_timeout": "10",
    "application_name": "loop4",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_PREPARE = """SELECT set_config('search_path', %s, false),
    set_config('lock_timeout', %s, false),
    set_config('statement_timeout', %s, false),
    current_setting('server_version_num'), current_setting('server_encoding'),
    current_setting('synchronous_commit'), current_setting('fsync')"""
_BEGIN = (
    f"SELECT set_config('idle_in_transaction_session_timeout', '{_FROZEN_S}s', true), "
    f"pg_advisory_xact_lock({WRITE_LOCK})"
)

# by SQLSTATE, the longest match first
_ADVICE = {
    "53100": "the server's disk is full and nothing was written; free space and run `loop4 resume`",
    "53300": "the server has no connection left; stop some clients or raise max_connections",
    "53": "the server is out of memory or disk and nothing was written; see its log",
    "55P03": "another process held its write lock too long; try again, or stop that process",
    "57014": "a statement took too long and was stopped; nothing was written",
    "25P03": "this process stood still inside a transaction, so the server ended it; "
    "nothing was written",
    "25006": "the server or this user may only read; name the primary server",
    "42501": "this user may not do that; let it own the schema 'loop4', or create in the database",
    "28": "the server did not accept the user or password; check PGPASSWORD or ~/.pgpass",
    "3D000": "there is no such database; make it with `createdb`",
    "42P01": "a table is missing; restore the database from a copy",
    "57P": "the server is stopping or starting; try again, then run `loop4 resume`",
    "08": "the server is gone; when it is back, run `loop4 resume`",
    "22": "a value cannot be stored",
}
_SPOKEN = {  # a refused connection has no SQLSTATE; these are the server's words
    "authentication failed": _ADVICE["28"],
    "no password supplied": _ADVICE["28"],
    "no pg_hba.conf entry": _ADVICE["28"],
    "too many clients": _ADVICE["53300"],
    "remaining connection slots": _ADVICE["53300"],
    "starting up": _ADVICE["57P"],
    "shutting down": _ADVICE["57P"],
    "recovery mode": _ADVICE["57P"],
}


class PostgresqlDatabase:
    """A schema named `loop4` in the database that a URL names. An advisory lock orders writers."""

    def __init__(self, url: str, *, busy_timeout_s: float) -> None:
        parts = read_url(url)
        self.conninfo = make_conninfo(**{**_CONNECT, **parts})
        self._secret = parts.get("password", "")
        self._name = f"ledger {shown(parts)!r}"
        self._busy_timeout_s = busy_timeout_s

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy's name of the dialect."""
        return "postgresql"

    @property
    def name(self) -> str:
        """How messages name the ledger: its URL without the password."""
        return self._name

    def check(self, *, create: bool) -> None:
        """Nothing to look at before connecting: the database itself is never made."""

    def make_engine(self) -> Engine:
        """A pool whose connections are tried before use, so that it outlives a restarted server."""
        return create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_pre_ping=True,
            pool_timeout=self._busy_timeout_s,
            use_native_hstore=False,
            # otherwise that of an INSERT is -1
            execution_options={"preserve_rowcount": True},
        )

    def begin(self, connection: Connection, *, writable: bool) -> None:
        """Start a transaction: one with the write lock, or one consistent snapshot."""
        if writable:
            connection.execution_options(isolation_level="READ COMMITTED")
            connection.exec_driver_sql(_BEGIN)
        else:
            connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    def commit(self, connection: Connection) -> None:
        """End the transaction: what it wrote is on the server's disk when this returns."""
        connection.commit()

    def is_open(self, connection: Connection) -> bool:
        """Whether a transaction is open."""
        return connection.in_transaction()

    def tables(self, connection: Connection) -> Collection[str]:
        """Names of the tables in the schema, none if it is not there."""
        found = connection.execute(
            text("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = :of"),
            {"of": SCHEMA},
        ).scalars()
        return set(found)

    def create(self, connection: Connection) -> None:
        """Make the schema, the tables of the present version and their triggers."""
        make_schema(connection)
        schema.metadata.create_all(connection, checkfirst=False)
        for statement in schema.POSTGRESQL_TRIGGERS:
            connection.exec_driver_sql(statement)

    def explain(self, error: Exception, *, committing: bool = False) -> LedgerError:
        """The one-line error that stands for a failure of the server. It holds no password."""
        cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
        said = " ".join(str(cause).split())
        if self._secret:
            said = said.replace(self._secret, "***")
        if isinstance(cause, UnicodeEncodeError | OverflowError | psycopg.DataError):
            return LedgerError(f"{self.name}: a value cannot be stored ({said})")
        advice = _advice(cause, said)
        if committing and isinstance(cause, psycopg.OperationalError):
            advice = (
                "the server went away during a commit, so it is not known whether that was "
                "written; when it is back, run `loop4 resume`"
            )
        kind = LedgerUnavailable if isinstance(cause, psycopg.OperationalError) else LedgerError
        return kind(f"{self.name}: {advice} ({said})" if advice else f"{self.name}: {said}")

    def _connect(self) -> psycopg.Connection[TupleRow]:
        connection = psycopg.connect(self.conninfo, autocommit=True)
        try:
            wait_ms = max(1, round(self._busy_timeout_s * 1000))
            row = connection.execute(
                _PREPARE, (SCHEMA, f"{wait_ms}ms", f"{_STATEMENT_S}s")
            ).fetchone()
            self._check_server(*(str(value) for value in (row or ())[3:]))
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_server(self, version: str, encoding: str, commit: str, fsync: str) -> None:
        if int(version) < _OLDEST:
            raise LedgerError(f"{self.name}: PostgreSQL 13 or newer is needed, found {version}")
        if encoding != "UTF8":
            raise LedgerError(
                f"{self.name}: the database stores {encoding}, expected UTF8; "
                "make one with `createdb --encoding UTF8`"
            )
        if commit == "off" or fsync == "off":
            which = "synchronous_commit" if commit == "off" else "fsync"
            raise LedgerError(
                f"{self.name}: {which} is off, and evidence must be durable; switch it on"
            )


def make_schema(connection: Connection) -> None:
    """Make the schema if it is not there. One that is there needs no right to make it."""
    there = connection.execute(
        text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :of"), {"of": SCHEMA}
    ).first()
    if there is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")


def read_url(url: str) -> dict[str, str]:
    """The parts of a URL by libpq's names. LedgerError, without the URL: it may hold a password."""
    rest = url.partition("://")[2]
    try:
        found = conninfo_to_dict(f"postgresql://{rest}")
    except psycopg.ProgrammingError:
        # libpq would quote the URL with its password
        raise LedgerError(
            f"ledger: the database URL cannot be read; {_EXPECTED}, "
            "with special characters of a password percent-encoded"
        ) from None
    parts = {name: str(value) for name, value in found.items() if value is not None}
    if any("@" in parts.get(name, "") for name in ("host", "dbname", "user")):
        raise LedgerError(
            f"ledger: the database URL has a stray '@'; {_EXPECTED}, "
            "with special characters of a password percent-encoded"
        )
    return parts


def shown(parts: dict[str, str]) -> str:
    """The URL as messages may show it: who, where and which database."""
    user = f"{parts['user']}@" if "user" in parts else ""
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql+psycopg://{user}{parts.get('host', '')}{port}/{parts.get('dbname', '')}"


def _advice(cause: BaseException, said: str) -> str:
    code = (cause.sqlstate or "") if isinstance(cause, psycopg.Error) else ""
    for prefix, advice in _ADVICE.items():
        if code.startswith(prefix):
            return advice
    if isinstance(cause, psycopg.OperationalError) and not code:
        for words, advice in _SPOKEN.items():
            if words in said:
                return advice
        if 'database "' in said and "does not exist" in said:
            return _ADVICE["3D000"]
        if 'role "' in said and "does not exist" in said:
            return _ADVICE["28"]
        return "the server cannot be reached; check host and port, and that it runs"
    return ""
