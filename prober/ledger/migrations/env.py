"""Alembic's entry: migrations run on the connection, and in the transaction, of whoever opens the ledger."""

from alembic import context

from prober.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
