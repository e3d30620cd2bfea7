"""Roles over HTTP. CONTRACT §5."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.pagination import only_page
from yuanlian.services.auth.custom_roles.schemas import (
    Deleted,
    NewRole,
    PermissionView,
    RoleChange,
    RoleView,
)
from yuanlian.services.auth.custom_roles.service import READ, WRITE, RoleService

PATH = "/api/auth/roles"
ONE = f"{PATH}/{{role_id:str}}"


def routes(service: RoleService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="List the roles of this kindergarten")
    async def list_roles(cursor: FromQuery[str | None] = None) -> Response[Envelope[Page[RoleView]]]:
        """One page with all of them, about 100 at most: there is no cursor, and ``limit`` has no effect."""
        only_page(cursor)
        return reply(await service.list_(require(READ)))

    @post(PATH, summary="Define a role")
    async def create_role(data: JSONBody[Body[NewRole]]) -> Response[Envelope[RoleView]]:
        """Nobody can put a permission into a role that they do not hold themselves."""
        return reply(await service.create(require(WRITE), data.data), 201)

    @patch(ONE, summary="Change a role")
    async def change_role(
        role_id: FromPath[str], data: JSONBody[Body[RoleChange]]
    ) -> Response[Envelope[RoleView]]:
        """Other permissions end the access tokens of everybody who has the role."""
        return reply(await service.change(require(WRITE), role_id, data.data))

    @delete(ONE, summary="Delete a role that nobody has", status_code=200)
    async def delete_role(role_id: FromPath[str]) -> Response[Envelope[Deleted]]:
        await service.delete(require(WRITE), role_id)
        return reply(Deleted(role_id))

    @get("/api/auth/permissions", summary="The permissions there are")
    async def list_permissions(
        cursor: FromQuery[str | None] = None,
    ) -> Response[Envelope[Page[PermissionView]]]:
        """One page with all of them. ``conditional``: whether a role may hold it under a condition."""
        only_page(cursor)
        return reply(service.catalogue(require(READ)))

    return [list_roles, create_role, change_role, delete_role, list_permissions]
