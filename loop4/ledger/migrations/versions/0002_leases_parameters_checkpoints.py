"""Who drives a run, what people set for the fleet, and the signed heads of the evidence."""

import sqlalchemy as sa
from alembic import op

from loop4.ledger.pgtext import PostgresqlText

TEXT = sa.Text().with_variant(PostgresqlText(), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0002"
down_revision = "0001"

APPEND_ONLY = ("checkpoints",)
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
TRIGGERS = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}


def upgrade() -> None:
    """Add three tables; nothing that is there changes."""
    op.create_table(
        "leases",
        sa.Column("run_id", TEXT, nullable=False, primary_key=True),
        sa.Column("holder", TEXT, nullable=False, server_default=""),
        sa.Column("fence", INTEGER, nullable=False, server_default="0"),
        sa.Column("until_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("takeovers", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "parameters",
        sa.Column("name", TEXT, nullable=False, primary_key=True),
        sa.Column("value", TEXT, nullable=False, server_default=""),
        sa.Column("set_by", TEXT, nullable=False, server_default=""),
        sa.Column("set_ms", INTEGER, nullable=False, server_default="0"),
        sa.Column("until_ms", INTEGER, nullable=False, server_default="0"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", INTEGER, nullable=False, primary_key=True, autoincrement=False),
        sa.Column("root", TEXT, nullable=False, server_default=""),
        sa.Column("key_id", TEXT, nullable=False, server_default=""),
        sa.Column("signature", TEXT, nullable=False, server_default=""),
        sa.Column("at_ms", INTEGER, nullable=False, server_default="0"),
    )
    for statement in TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)
