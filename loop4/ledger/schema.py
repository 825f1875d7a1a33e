"""The ledger's tables, one schema version, and the triggers that keep append-only tables honest.

Times are integer milliseconds, digests are 64 hexadecimal digits, JSON columns hold canonical
(RFC 8785) text. "" and 0 stand for "not yet"; no column is nullable, so that every value can be
hashed and compared.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

from loop4.ledger.pgtext import PostgresqlText

SCHEMA_VERSION = 2

metadata = MetaData()

TEXT: TypeEngine[str] = Text().with_variant(PostgresqlText(), "postgresql")
# SQLite's INTEGER has 64 bits, PostgreSQL's has 32
INTEGER: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, TEXT, primary_key=key, nullable=False, server_default=None if key else "")


def _int(name: str) -> Column[int]:
    return Column(name, INTEGER, nullable=False, server_default="0")


# schema_version, salt, evidence_head, fence
meta = Table("meta", metadata, _text("key", key=True), _text("value"))

incidents = Table(
    "incidents",
    metadata,
    _text("incident_id", key=True),
    _int("year"),
    _int("number"),
    _text("correlation"),
    _text("service"),
    _text("environment"),
    _text("severity"),
    _text("state"),
    _int("detected_ms"),
    _int("mitigated_ms"),
    _int("resolved_ms"),
    _text("cause"),
    UniqueConstraint("year", "number"),
)
_OPEN = text("state != 'resolved'")
Index(
    "incidents_one_open",
    incidents.c.correlation,
    unique=True,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)

runs = Table(
    "runs",
    metadata,
    _text("run_id", key=True),
    Column("incident_id", TEXT, ForeignKey("incidents.incident_id"), nullable=False),
    _text("state"),
    _int("wake_at_ms"),
    _text("approval_id"),
    _text("graph_version"),
    _int("started_ms"),
    _int("updated_ms"),
)
_LIVE = text("state IN ('running', 'waiting_approval', 'sleeping')")
Index(
    "runs_one_live",
    runs.c.incident_id,
    unique=True,
    sqlite_where=_LIVE,
    postgresql_where=_LIVE,
)

events = Table(
    "events",
    metadata,
    Column("arrival", INTEGER, primary_key=True),
    Column("event_id", TEXT, nullable=False, unique=True),
    _text("kind"),
    _text("source"),
    _text("service"),
    _text("environment"),
    _int("at_ms"),
    _text("correlation"),
    _int("resolved"),
    _text("labels"),
    _text("text"),
    _text("request"),
    _text("requester"),
    Column("incident_id", TEXT, nullable=False, server_default="", index=True),
    _int("accepted_ms"),
    _int("taken_ms"),
)

contents = Table("contents", metadata, _text("digest", key=True), _text("body"))

# AUTOINCREMENT: SQLite itself also remembers the highest sequence ever given. PostgreSQL keeps no
# such memory that a rollback takes back; there only the signed checkpoints remember.
evidence = Table(
    "evidence",
    metadata,
    Column("seq", INTEGER, primary_key=True, autoincrement=False),
    _text("previous"),
    _text("digest"),
    _text("kind"),
    Column("incident_id", TEXT, nullable=False, server_default="", index=True),
    _text("run_id"),
    _text("action_id"),
    _text("trace_id"),
    _int("at_ms"),
    _text("body"),
    sqlite_autoincrement=True,
)

intents = Table(
    "intents",
    metadata,
    _text("action_id", key=True),
    Column("incident_id", TEXT, nullable=False, server_default="", index=True),
    _text("run_id"),
    _text("tool"),
    Column("target", TEXT, nullable=False, server_default="", index=True),
    _text("service"),
    _text("environment"),
    _text("arguments"),
    _text("action_digest"),
    _text("target_revision"),
    _text("policy_version"),
    _text("approval_id"),
    _text("permit_nonce"),
    _text("precondition"),
    _int("fence"),
    _text("state"),
    _text("detail"),
    _text("before"),
    _text("after"),
    _int("intended_ms"),
    _int("settled_ms"),
    _text("verified"),
    _int("verified_ms"),
)

permits = Table(
    "permits",
    metadata,
    _text("nonce", key=True),
    Column("action_id", TEXT, ForeignKey("intents.action_id"), nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    _text("approval_id", key=True),
    _text("incident_id"),
    _text("run_id"),
    Column("action_id", TEXT, nullable=False, index=True),
    _text("action_digest"),
    _text("policy_version"),
    _text("state"),
    _text("requester"),
    _text("role"),
    _int("need"),
    _int("requested_ms"),
    _int("expires_ms"),
    _text("payload"),
    _int("closed_ms"),
    _text("reason"),
)

votes = Table(
    "votes",
    metadata,
    Column("approval_id", TEXT, ForeignKey("approvals.approval_id"), primary_key=True),
    _text("person", key=True),
    _text("roles"),
    _int("approve"),
    _int("at_ms"),
)

budgets = Table(
    "budgets",
    metadata,
    _text("key", key=True),
    _text("action_id", key=True),
    _int("at_ms"),
)

locks = Table(
    "locks",
    metadata,
    _text("target", key=True),
    _text("action_id"),
    _text("run_id"),
    _int("at_ms"),
)

outbox = Table(
    "outbox",
    metadata,
    _text("key", key=True),
    _text("kind"),
    _text("payload"),
    _int("due_ms"),
    _int("put_ms"),
    _int("done_ms"),
)

# who drives a run, until when; the fence rises with each new holder
leases = Table(
    "leases",
    metadata,
    _text("run_id", key=True),
    _text("holder"),
    _int("fence"),
    _int("until_ms"),
    _int("takeovers"),
)

# what people set for the whole fleet while it runs: pause, freezes, modes, limits
parameters = Table(
    "parameters",
    metadata,
    _text("name", key=True),
    _text("value"),
    _text("set_by"),
    _int("set_ms"),
    _int("until_ms"),
)

# signed tree heads of the evidence, as they went to the second place
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", INTEGER, primary_key=True, autoincrement=False),
    _text("root"),
    _text("key_id"),
    _text("signature"),
    _int("at_ms"),
)

# Hygiene against mistakes, not against an attacker: who owns the database can drop a trigger. The
# hash chain is what shows a change.
_APPEND_ONLY = ("evidence", "contents", "votes", "checkpoints")

# the insert trigger stops INSERT OR REPLACE, which skips the others
SQLITE_TRIGGERS = (
    *(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for table in _APPEND_ONLY
        for verb in ("UPDATE", "DELETE")
    ),
    "CREATE TRIGGER evidence_no_replace BEFORE INSERT ON evidence "
    "WHEN EXISTS (SELECT 1 FROM evidence WHERE seq >= NEW.seq) "
    "BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END",
)
POSTGRESQL_TRIGGERS = (
    "CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$",
    "CREATE FUNCTION evidence_rises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF EXISTS (SELECT 1 FROM evidence WHERE seq >= NEW.seq) THEN "
    "RAISE EXCEPTION USING MESSAGE = 'evidence is append-only'; END IF; RETURN NEW; END $$",
    *(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"FOR EACH {'STATEMENT' if verb == 'TRUNCATE' else 'ROW'} EXECUTE FUNCTION append_only()"
        for table in _APPEND_ONLY
        for verb in ("UPDATE", "DELETE", "TRUNCATE")
    ),
    "CREATE TRIGGER evidence_no_replace BEFORE INSERT ON evidence "
    "FOR EACH ROW EXECUTE FUNCTION evidence_rises()",
)

# SQLite's own tables; never created by us
sqlite_master = Table("sqlite_master", MetaData(), _text("type"), _text("name"))
sqlite_sequence = Table("sqlite_sequence", MetaData(), _text("name"), _int("seq"))
