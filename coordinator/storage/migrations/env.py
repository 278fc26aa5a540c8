"""Alembic's entry: the connection, inside its transaction, comes from the coordinator."""

from __future__ import annotations

from alembic import context

from coordinator.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
context.run_migrations()
