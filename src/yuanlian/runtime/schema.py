"""Bringing a database to the schema of this release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

# Imported for their tables: the schema is what every service declares.
from yuanlian.kit.database.schema import Base
from yuanlian.kit.messaging import tables as messaging_tables
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.analytics import models as analytics_models
from yuanlian.services.auth import models as auth_models
from yuanlian.services.notification import models as notification_models
from yuanlian.services.tenant.attendance import models as attendance_models
from yuanlian.services.tenant.roster import models as roster_models
from yuanlian.services.tenant.tenants import models as tenant_models

HEAD = "0001"
"""The newest revision in ``migrations/versions``; a test compares them."""

DECLARED = (
    messaging_tables,
    auth_models,
    tenant_models,
    roster_models,
    attendance_models,
    notification_models,
    analytics_models,
)

metadata = Base.metadata


def revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    with across_tenants("schema revision"):
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: Connection) -> None:
    """Upgrades to ``HEAD``; a database that is already there costs one query."""
    if revision_of(connection) == HEAD:
        return
    from alembic import command  # 100 ms that only an upgrade should pay

    command.upgrade(alembic_config(connection), "head")


def alembic_config(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
