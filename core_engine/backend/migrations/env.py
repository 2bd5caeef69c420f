"""Run by Alembic: migrates over the connection that ``migrate`` opened."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
# In the caller's transaction: all revisions and the new number are committed together, or nothing.
context.configure(connection=connection, target_metadata=None, transactional_ddl=True)
context.run_migrations()
