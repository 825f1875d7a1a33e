"""The first schema: incidents, runs, events, evidence, intents, approvals, budgets, locks."""

import sqlalchemy as sa
from alembic import op

from loop4.ledger.pgtext import PostgresqlText

TEXT = sa.Text().with_variant(PostgresqlText(), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0001"
down_revision = None

APPEND_ONLY = ("evidence", "contents", "votes")
_SQLITE = [
    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    for table in APPEND_ONLY
    for verb in ("UPDATE", "DELETE")
]
_POSTGRESQL = [
    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
    f"FOR EACH {'STATEMENT' if verb == 'TRUNCATE' else 'ROW'} EXECUTE FUNCTION append_only()"
    for table in APPEND_ONLY
    for verb in ("UPDATE", "DELETE", "TRUNCATE")
]
TRIGGERS = {
    "sqlite": [
        *_SQLITE,
        "CREATE TRIGGER evidence_no_replace BEFORE INSERT ON evidence "
        "WHEN EXISTS (SELECT 1 FROM evidence WHERE seq >= NEW.seq) "
        "BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$",
        "CREATE FUNCTION evidence_rises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF EXISTS (SELECT 1 FROM evidence WHERE seq >= NEW.seq) THEN "
        "RAISE EXCEPTION USING MESSAGE = 'evidence is append-only'; END IF; RETURN NEW; END $$",
        *_POSTGRESQL,
        "CREATE TRIGGER evidence_no_replace BEFORE INSERT ON evidence "
        "FOR EACH ROW EXECUTE FUNCTION evidence_rises()",
    ],
}


def upgrade() -> None:
    """Make the tables, the two indexes that keep things single, and the triggers."""
    op.create_table(
        "meta",
        sa.Column("key", TEXT, nullable=False, primary_key=True),
        sa.Column("value", TEXT, nullable=False, server_default=""),
    )
    op.create_table(
        "incidents",
        sa.Column("incident_id", TEXT, nullable=False, primary_key=True),
        sa.Column("year", INTEGER, nullable=False, server_default="0"),
        sa.Column("number", INTEGER, nullable=False, server_default="0"),
        sa.Column("correlation", TEXT, nullable=False, server_default=""),
        sa.Column("service", TEXT, nullable=False, server_default=""),
        sa.Column("environment", TEXT, nullable=False, server_default=""),
        sa.Column("severity", TEXT, nullable=False, server_default=""),
        sa.Column("state", TEXT, nullable=False, server_default=""),
        sa.Column("detected_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("mitigated_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("resolved_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("cause", TEXT, nullable=False, server_default=""),
        sa.UniqueConstraint("year", "number"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", TEXT, nullable=False, primary_key=True),
        sa.Column("incident_id", TEXT, sa.ForeignKey("incidents.incident_id"), nullable=False),
        sa.Column("state", TEXT, nullable=False, server_default=""),
        sa.Column("wake_at_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("approval_id", TEXT, nullable=False, server_default=""),
        sa.Column("graph_version", TEXT, nullable=False, server_default=""),
        sa.Column("started_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("updated_ms", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "events",
        sa.Column("arrival", INTEGER, nullable=False, primary_key=True),
        sa.Column("event_id", TEXT, nullable=False, unique=True),
        sa.Column("kind", TEXT, nullable=False, server_default=""),
        sa.Column("source", TEXT, nullable=False, server_default=""),
        sa.Column("service", TEXT, nullable=False, server_default=""),
        sa.Column("environment", TEXT, nullable=False, server_default=""),
        sa.Column("at_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("correlation", TEXT, nullable=False, server_default=""),
        sa.Column("resolved", INTEGER, nullable=False, server_default="0"),
        sa.Column("labels", TEXT, nullable=False, server_default=""),
        sa.Column("text", TEXT, nullable=False, server_default=""),
        sa.Column("request", TEXT, nullable=False, server_default=""),
        sa.Column("requester", TEXT, nullable=False, server_default=""),
        sa.Column("incident_id", TEXT, nullable=False, server_default="", index=True),
        sa.Column("accepted_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("taken_ms", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "contents",
        sa.Column("digest", TEXT, nullable=False, primary_key=True),
        sa.Column("body", TEXT, nullable=False, server_default=""),
    )
    op.create_table(
        "evidence",
        sa.Column("seq", INTEGER, nullable=False, primary_key=True, autoincrement=False),
        sa.Column("previous", TEXT, nullable=False, server_default=""),
        sa.Column("digest", TEXT, nullable=False, server_default=""),
        sa.Column("kind", TEXT, nullable=False, server_default=""),
        sa.Column("incident_id", TEXT, nullable=False, server_default="", index=True),
        sa.Column("run_id", TEXT, nullable=False, server_default=""),
        sa.Column("action_id", TEXT, nullable=False, server_default=""),
        sa.Column("trace_id", TEXT, nullable=False, server_default=""),
        sa.Column("at_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("body", TEXT, nullable=False, server_default=""),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "intents",
        sa.Column("action_id", TEXT, nullable=False, primary_key=True),
        sa.Column("incident_id", TEXT, nullable=False, server_default="", index=True),
        sa.Column("run_id", TEXT, nullable=False, server_default=""),
        sa.Column("tool", TEXT, nullable=False, server_default=""),
        sa.Column("target", TEXT, nullable=False, server_default="", index=True),
        sa.Column("service", TEXT, nullable=False, server_default=""),
        sa.Column("environment", TEXT, nullable=False, server_default=""),
        sa.Column("arguments", TEXT, nullable=False, server_default=""),
        sa.Column("action_digest", TEXT, nullable=False, server_default=""),
        sa.Column("target_revision", TEXT, nullable=False, server_default=""),
        sa.Column("policy_version", TEXT, nullable=False, server_default=""),
        sa.Column("approval_id", TEXT, nullable=False, server_default=""),
        sa.Column("permit_nonce", TEXT, nullable=False, server_default=""),
        sa.Column("precondition", TEXT, nullable=False, server_default=""),
        sa.Column("fence", INTEGER, nullable=False, server_default="0"),
        sa.Column("state", TEXT, nullable=False, server_default=""),
        sa.Column("detail", TEXT, nullable=False, server_default=""),
        sa.Column("before", TEXT, nullable=False, server_default=""),
        sa.Column("after", TEXT, nullable=False, server_default=""),
        sa.Column("intended_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("settled_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("verified", TEXT, nullable=False, server_default=""),
        sa.Column("verified_ms", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "permits",
        sa.Column("nonce", TEXT, nullable=False, primary_key=True),
        sa.Column("action_id", TEXT, sa.ForeignKey("intents.action_id"), nullable=False),
    )
    op.create_table(
        "approvals",
        sa.Column("approval_id", TEXT, nullable=False, primary_key=True),
        sa.Column("incident_id", TEXT, nullable=False, server_default=""),
        sa.Column("run_id", TEXT, nullable=False, server_default=""),
        sa.Column("action_id", TEXT, nullable=False, index=True),
        sa.Column("action_digest", TEXT, nullable=False, server_default=""),
        sa.Column("policy_version", TEXT, nullable=False, server_default=""),
        sa.Column("state", TEXT, nullable=False, server_default=""),
        sa.Column("requester", TEXT, nullable=False, server_default=""),
        sa.Column("role", TEXT, nullable=False, server_default=""),
        sa.Column("need", INTEGER, nullable=False, server_default="0"),
        sa.Column("requested_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("expires_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("payload", TEXT, nullable=False, server_default=""),
        sa.Column("closed_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("reason", TEXT, nullable=False, server_default=""),
    )
    op.create_table(
        "votes",
        sa.Column(
            "approval_id",
            TEXT,
            sa.ForeignKey("approvals.approval_id"),
            nullable=False,
            primary_key=True,
        ),
        sa.Column("person", TEXT, nullable=False, primary_key=True),
        sa.Column("roles", TEXT, nullable=False, server_default=""),
        sa.Column("approve", INTEGER, nullable=False, server_default="0"),
        sa.Column("at_ms", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "budgets",
        sa.Column("key", TEXT, nullable=False, primary_key=True),
        sa.Column("action_id", TEXT, nullable=False, primary_key=True),
        sa.Column("at_ms", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "locks",
        sa.Column("target", TEXT, nullable=False, primary_key=True),
        sa.Column("action_id", TEXT, nullable=False, server_default=""),
        sa.Column("run_id", TEXT, nullable=False, server_default=""),
        sa.Column("at_ms", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "outbox",
        sa.Column("key", TEXT, nullable=False, primary_key=True),
        sa.Column("kind", TEXT, nullable=False, server_default=""),
        sa.Column("payload", TEXT, nullable=False, server_default=""),
        sa.Column("due_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("put_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("done_ms", INTEGER, nullable=False, server_default="0"),
    )
    is_open = sa.text("state != 'resolved'")
    op.create_index(
        "incidents_one_open",
        "incidents",
        ["correlation"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    is_live = sa.text("state IN ('running', 'waiting_approval', 'sleeping')")
    op.create_index(
        "runs_one_live",
        "runs",
        ["incident_id"],
        unique=True,
        sqlite_where=is_live,
        postgresql_where=is_live,
    )
    for statement in TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)
