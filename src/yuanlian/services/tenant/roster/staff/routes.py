"""Staff over HTTP. CONTRACT §6."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit
from yuanlian.services.tenant.roster.staff.schemas import NewStaff, StaffChange, StaffView
from yuanlian.services.tenant.roster.staff.service import READ, WRITE, StaffService

PATH = "/api/tenant/staff"


def routes(service: StaffService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="List the staff")
    async def list_staff(
        cursor: FromQuery[str | None] = None, limit: Limit = DEFAULT_LIMIT
    ) -> Response[Envelope[Page[StaffView]]]:
        return reply(await service.list_(require(READ), cursor, limit))

    @post(PATH, summary="Register a member of staff")
    async def create_staff(data: JSONBody[Body[NewStaff]]) -> Response[Envelope[StaffView]]:
        return reply(await service.create(require(WRITE), data.data), 201)

    @get(f"{PATH}/{{staff_id:str}}", summary="Show a member of staff")
    async def get_staff(staff_id: FromPath[str]) -> Response[Envelope[StaffView]]:
        return reply(await service.get(require(READ), staff_id))

    @patch(f"{PATH}/{{staff_id:str}}", summary="Change a member of staff or their classes")
    async def change_staff(
        staff_id: FromPath[str], data: JSONBody[Body[StaffChange]]
    ) -> Response[Envelope[StaffView]]:
        return reply(await service.change(require(WRITE), staff_id, data.data))

    @delete(f"{PATH}/{{staff_id:str}}", status_code=200, summary="Remove a member of staff")
    async def remove_staff(staff_id: FromPath[str]) -> Response[Envelope[None]]:
        await service.remove(require(WRITE), staff_id)
        return reply(None)

    return [list_staff, create_staff, get_staff, change_staff, remove_staff]
