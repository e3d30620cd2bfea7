"""The first person on a new installation: nobody can sign in before there is an operator."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.errors import ConflictError, ValidationError
from yuanlian.kit.tenancy.scope import tenant_scope
from yuanlian.runtime.console import say
from yuanlian.runtime.operations import database_of, hold, refuse_other_schema
from yuanlian.runtime.schema import revision_of, upgrade
from yuanlian.runtime.settings import Settings
from yuanlian.services.auth import provisioning as accounts
from yuanlian.services.tenant.tenants import repository as tenants

NAME = "园联平台"


class OperatorRefusedError(ValueError):
    """Not a username or a password, or the username is taken."""


async def create_operator(settings: Settings, username: str, password: str, name: str) -> None:
    """In whatever database the settings name; its tables are made if there are none. A server may be in
    use meanwhile, by services and by others who make operators.

    Raises:
        OperatorRefusedError: nothing was written.
        DataDirHeldError: a platform runs on SQLite's; its operators add colleagues over the API.
        SchemaError: the database is of another release, or not one of ours.
        DatabaseRefusedError, DatabaseUnavailableError, OutcomeUnknownError: as the database does.
    """
    try:
        accounts.check_credentials(username, password)
    except ValidationError as error:
        raise OperatorRefusedError("; ".join(f"{d.field} {d.message.en}" for d in error.details)) from None
    password_hash = await asyncio.to_thread(accounts.hash_password, password)
    now = SystemClock().now_ms()

    def create(session: Session) -> None:
        if tenants.get(session, accounts.PLATFORM) is None:
            row = {"id": accounts.PLATFORM, "name": NAME, "domain": None, "created_at": now}
            tenants.insert_many(session, [row])
        accounts.create_operator(session, username, password_hash, name)

    with hold(settings):
        database = database_of(settings)
        try:
            database.migrate(_make_tables)
            with tenant_scope(accounts.PLATFORM):
                await database.write(create)
        except ConflictError:
            raise OperatorRefusedError(f"the username {username} is taken") from None
        finally:
            await database.close()
    say(f"operator {username}: sign in at POST /api/auth/login")


def _make_tables(connection: Connection) -> None:
    """Only where there are none: services of another release may run on a server's."""
    revision = revision_of(connection)
    if revision is None:
        upgrade(connection)
    else:
        refuse_other_schema(revision)
