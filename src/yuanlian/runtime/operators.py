"""The first person on a new installation: nobody can sign in before there is an operator."""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.errors import ConflictError, ValidationError
from yuanlian.kit.tenancy.scope import tenant_scope
from yuanlian.runtime.console import say
from yuanlian.runtime.datadir import DataDirLock
from yuanlian.runtime.schema import upgrade
from yuanlian.runtime.settings import Settings
from yuanlian.services.auth import provisioning as accounts
from yuanlian.services.tenant.tenants import repository as tenants

NAME = "园联平台"


class OperatorRefusedError(ValueError):
    """Not a username or a password, or the username is taken."""


async def create_operator(settings: Settings, username: str, password: str, name: str) -> None:
    """On a stopped platform, whose database is made if there is none.

    Raises:
        OperatorRefusedError: nothing was written.
        DataDirHeldError: a platform runs on it; its operators add colleagues over the API.
        SchemaError: the database is not one of ours.
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

    with DataDirLock(settings.data_dir):
        database = SqliteDatabase(settings.database_path)
        try:
            database.migrate(upgrade)
            with tenant_scope(accounts.PLATFORM):
                await database.write(create)
        except ConflictError:
            raise OperatorRefusedError(f"the username {username} is taken") from None
        finally:
            await database.close()
    say(f"operator {username}: sign in at POST /api/auth/login")
