"""Bringing a database to the schema of this release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect, select

# Imported for their tables: the schema is what every service declares.
from yuanlian.kit.database.schema import Base
from yuanlian.kit.messaging import tables as messaging_tables
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.runtime.refusals import Refusal
from yuanlian.services.analytics import models as analytics_models
from yuanlian.services.auth import models as auth_models
from yuanlian.services.notification import models as notification_models
from yuanlian.services.tenant.attendance import models as attendance_models
from yuanlian.services.tenant.roster import models as roster_models
from yuanlian.services.tenant.tenants import models as tenant_models

HEAD = "0003"
"""The newest revision in ``migrations/versions``; a test compares them."""

_NOT_OURS = "the database has tables but no schema revision: it is not one of ours"
_MIGRATIONS = Path(__file__).parent / "migrations"

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


_REVISIONS = Table(
    "alembic_version",
    MetaData(),  # Alembic's own: not a table of ours
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class SchemaError(Refusal):
    """The database is not one that this release can bring to its schema."""


def revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_REVISIONS.name):
        return None
    return connection.execute(select(_REVISIONS.c.version_num)).scalar()


def examine(connection: Connection) -> str | None:
    """The revision of a database that ``upgrade`` would take; None for one without tables. Only reads.

    Raises:
        SchemaError: it would not.
    """
    revision = revision_of(connection)
    if revision is None:
        tables = inspect(connection).get_table_names()
        if tables and not _is_cut_short(connection, tables):
            raise SchemaError(_NOT_OURS)
    elif revision != HEAD and not is_known(revision):
        raise SchemaError(f"the database has schema {revision}, which this release does not know")
    return revision


def outlook(revision: str | None) -> str:
    """What a start makes of it."""
    if revision is None:
        return "the first start makes its tables"
    if revision == HEAD:
        return f"schema {HEAD}"
    return f"schema {revision}; the next start or `yuanlian migrate` brings it to {HEAD}"


def upgrade(connection: Connection) -> None:
    """Upgrades to ``HEAD``; a database that is already there costs two queries.

    Raises:
        SchemaError: the database is of a newer release, or not ours.
    """
    revision = revision_of(connection)
    if revision == HEAD:
        return
    tables = inspect(connection).get_table_names()
    if revision is not None:
        migrate(connection)
    elif _is_cut_short(connection, tables):
        metadata.drop_all(connection)
        _fill(connection)
    elif tables:
        raise SchemaError(_NOT_OURS)
    else:
        create(connection)


def create(connection: Connection) -> None:
    """The whole schema at once, for an empty database; the same as ``migrate`` makes (a test
    compares them) without the 150 ms and 10 MB of Alembic."""
    _REVISIONS.create(connection)
    _fill(connection)


def _is_cut_short(connection: Connection, tables: Sequence[str]) -> bool:
    """Our own first start did not come to its end, on a database that keeps each table as soon as it is
    made (MySQL)."""
    return _REVISIONS.name in tables and not _any_row(connection, tables)


def _any_row(connection: Connection, tables: Sequence[str]) -> bool:
    ours = (metadata.tables[name] for name in tables if name in metadata.tables)
    with across_tenants("schema creation"):
        return any(connection.execute(select(table).limit(1)).first() is not None for table in ours)


def _fill(connection: Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    connection.execute(_REVISIONS.insert().values(version_num=HEAD))


def migrate(connection: Connection) -> None:
    """From revision to revision."""
    from alembic import command  # only where there is something to upgrade
    from alembic.util import CommandError

    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        raise SchemaError(f"the database cannot be upgraded to schema {HEAD}: {error}") from None


def is_known(revision: str | None) -> bool:
    """Whether this release can bring a database of that revision to ``HEAD``."""
    from alembic.script import ScriptDirectory  # as above

    known = {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
    return revision in known


def alembic_config(connection: Connection) -> Any:
    from alembic.config import Config  # as above

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config
