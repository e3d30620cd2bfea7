"""Classes over HTTP. CONTRACT §6."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit
from yuanlian.services.tenant.roster.classes.schemas import ClassChange, ClassView, NewClass
from yuanlian.services.tenant.roster.classes.service import READ, WRITE, ClassService

PATH = "/api/tenant/classes"


def routes(service: ClassService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="List the classes the caller may see")
    async def list_classes(
        cursor: FromQuery[str | None] = None, limit: Limit = DEFAULT_LIMIT
    ) -> Response[Envelope[Page[ClassView]]]:
        return reply(await service.list_(require(READ), cursor, limit))

    @post(PATH, summary="Open a class")
    async def create_class(data: JSONBody[Body[NewClass]]) -> Response[Envelope[ClassView]]:
        return reply(await service.create(require(WRITE), data.data), 201)

    @get(f"{PATH}/{{class_id:str}}", summary="Show a class")
    async def get_class(class_id: FromPath[str]) -> Response[Envelope[ClassView]]:
        return reply(await service.get(require(READ), class_id))

    @patch(f"{PATH}/{{class_id:str}}", summary="Change a class")
    async def change_class(
        class_id: FromPath[str], data: JSONBody[Body[ClassChange]]
    ) -> Response[Envelope[ClassView]]:
        return reply(await service.change(require(WRITE), class_id, data.data))

    @delete(f"{PATH}/{{class_id:str}}", status_code=200, summary="Close a class without active children")
    async def remove_class(class_id: FromPath[str]) -> Response[Envelope[None]]:
        await service.remove(require(WRITE), class_id)
        return reply(None)

    return [list_classes, create_class, get_class, change_class, remove_class]
