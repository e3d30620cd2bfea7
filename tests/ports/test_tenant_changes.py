"""A change of a tenant is known in every process, whichever made it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from tests.support import servers
from tests.support.databases import open_database

from yuanlian.kit.channels import Channels
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.database.schema import Base
from yuanlian.kit.redis import Redis
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.kit.tenancy.redis import TenantChanges
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory, to_tenant
from yuanlian.services.tenant.tenants.models import TenantRow


@pytest.fixture(params=["redis", "redis cluster"])
def url(request: pytest.FixtureRequest) -> str:
    return servers.redis().url if request.param == "redis" else servers.redis_cluster().url


@asynccontextmanager
async def process(url: str, database: ManagedDatabase) -> AsyncIterator[DatabaseTenantDirectory]:
    """A tenant service, as far as it knows tenants."""
    redis = Redis(url, timeout_s=servers.PATIENCE_S)
    channels = Channels(redis)
    changes = TenantChanges(redis, channels)
    directory = DatabaseTenantDirectory(database, SystemClock(), changes.tell)
    changes.hear(directory.enter, directory.forget)
    await channels.start()
    await until(lambda: channels.connected)
    try:
        yield directory
    finally:
        await channels.stop()
        await redis.close()


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_suspension_in_one_process_ends_what_another_knew(url: str, tmp_path: Path) -> None:
    database = open_database(tmp_path / "test.db")
    database.migrate(Base.metadata.create_all)

    async def main() -> None:
        async with process(url, database) as here, process(url, database) as there:
            row = TenantRow(id="tenant_a", name="a", created_at=0)
            await database.write(lambda session: session.add(row))
            heard: list[Tenant] = []
            there.on_change(heard.append)
            known = await there.find("tenant_a")
            assert known is not None
            assert known.status == "active"
            newcomer = await there.feed.after("", 0)

            def suspend(session: Session) -> Tenant:
                found = session.get_one(TenantRow, "tenant_a")
                found.status = "suspended"
                return to_tenant(found)

            here.changed(await database.write(suspend))
            await until(lambda: bool(heard))
            assert {tenant.status for tenant in heard} == {"suspended"}
            now = await there.find("tenant_a")
            assert now is not None
            assert now.status == "suspended"
            told = await there.feed.after(newcomer.cursor, 0)
            assert not told.complete
            assert {tenant.status for tenant in told.items} == {"suspended"}
        await database.close()

    asyncio.run(main())
