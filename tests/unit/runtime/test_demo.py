"""The demo kindergartens are such as people would set up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.databases import open_database, technology

from yuanlian.kit.database.schema import Base
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.runtime.demo.load import load_demo
from yuanlian.services.tenant.roster.models import Staff, StaffClass

__all__ = ["technology"]

pytestmark = pytest.mark.usefixtures("technology")


def test_principals_and_health_officers_are_on_the_staff_too(tmp_path: Path) -> None:
    """Announcements to the staff once passed them by."""

    async def scenario() -> None:
        database = open_database(tmp_path / "demo.db")
        database.migrate(Base.metadata.create_all)
        assert await load_demo(database)
        teachers = select(StaffClass.staff_id)
        others = select(Staff.tenant_id, Staff.id, Staff.user_id, Staff.name)
        with across_tenants("test"):
            rows = await database.read(lambda s: s.execute(others.where(Staff.id.not_in(teachers))).all())
        assert sorted(tuple(row) for row in rows) == [
            ("tenant_star", "staff_yuanzhang2", "user_yuanzhang2", "许园长"),
            ("tenant_sunshine", "staff_baojian", "user_baojian", "孙保健"),
            ("tenant_sunshine", "staff_yuanzhang", "user_yuanzhang", "李园长"),
        ]
        await database.close()

    asyncio.run(scenario())
