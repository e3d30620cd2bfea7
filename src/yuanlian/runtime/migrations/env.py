"""Run by Alembic with the connection that ``runtime.schema`` opened."""

from __future__ import annotations

from alembic import context

from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.runtime.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,
)
with context.begin_transaction(), across_tenants("schema migration"):
    context.run_migrations()
