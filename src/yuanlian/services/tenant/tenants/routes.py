"""Kindergartens over HTTP. CONTRACT §6."""

from __future__ import annotations

from litestar import Response, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.contracts.tenant import DIRECTORY_CHANGES_PATH, DIRECTORY_PATH, Found
from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.feed import WAIT_S, Changes
from yuanlian.kit.http.app import caller, reply, require, require_system
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory
from yuanlian.services.tenant.tenants.schemas import NewTenant, OwnTenant, TenantChange, TenantView
from yuanlian.services.tenant.tenants.service import TenantService

PATH = "/api/tenant/tenants"


def routes(service: TenantService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="List kindergartens")
    async def list_tenants(
        cursor: FromQuery[str | None] = None, limit: Limit = DEFAULT_LIMIT
    ) -> Response[Envelope[Page[TenantView]]]:
        return reply(await service.list_(require("tenant.read"), cursor, limit))

    @post(PATH, summary="Open a kindergarten")
    async def create_tenant(data: JSONBody[Body[NewTenant]]) -> Response[Envelope[TenantView]]:
        return reply(await service.create(require("tenant.write"), data.data), 201)

    @get(f"{PATH}/current", summary="The kindergarten the caller is in")
    async def own_tenant() -> Response[Envelope[OwnTenant]]:
        return reply(await service.own(caller()))

    @get(f"{PATH}/{{tenant_id:str}}", summary="Show a kindergarten")
    async def get_tenant(tenant_id: FromPath[str]) -> Response[Envelope[TenantView]]:
        return reply(await service.get(require("tenant.read"), tenant_id))

    @patch(f"{PATH}/{{tenant_id:str}}", summary="Change or suspend a kindergarten")
    async def change_tenant(
        tenant_id: FromPath[str], data: JSONBody[Body[TenantChange]]
    ) -> Response[Envelope[TenantView]]:
        return reply(await service.change(require("tenant.write"), tenant_id, data.data))

    return [list_tenants, create_tenant, own_tenant, get_tenant, change_tenant]


def internal_routes(directory: DatabaseTenantDirectory) -> list[ControllerRouterHandler]:
    """For the gateways; no route of theirs leads here. ``contracts/tenant.py``."""

    @get(DIRECTORY_PATH, include_in_schema=False, summary="A tenant by id or domain")
    async def find_tenant(
        id: FromQuery[str | None] = None,  # noqa: A002 - the name on the wire
        domain: FromQuery[str | None] = None,
    ) -> Response[Envelope[Found]]:
        require_system()
        if id is None and domain is None:
            raise ValidationError
        return reply(Found(await directory.look_up(tenant_id=id, domain=domain or "")))

    @get(DIRECTORY_CHANGES_PATH, include_in_schema=False, summary="Tenants that changed")
    async def list_changes(after: FromQuery[str] = "") -> Response[Envelope[Changes[Tenant]]]:
        require_system()
        return reply(await directory.feed.after(after, WAIT_S))

    return [find_tenant, list_changes]
