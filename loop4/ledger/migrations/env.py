"""What Alembic runs: the scripts beside it, on the connection and transaction it is handed."""

from alembic import context

# Alembic executes this file by importing it; anybody else who imports it changes nothing
if hasattr(context, "config"):
    context.configure(
        connection=context.config.attributes["connection"],
        version_table="alembic_version",
        transactional_ddl=True,
    )
    context.run_migrations()
