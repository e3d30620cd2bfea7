"""Guardians of a child over HTTP. CONTRACT §6."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.pagination import only_page
from yuanlian.services.tenant.roster.guardians.schemas import (
    GuardianshipChange,
    GuardianView,
    NewGuardian,
)
from yuanlian.services.tenant.roster.guardians.service import READ, WRITE, GuardianService

PATH = "/api/tenant/students/{student_id:str}/guardians"


def routes(service: GuardianService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="List a child's guardians")
    async def list_guardians(
        student_id: FromPath[str], cursor: FromQuery[str | None] = None
    ) -> Response[Envelope[Page[GuardianView]]]:
        """One page with all of them, at most ten: there is no cursor, and ``limit`` has no effect."""
        only_page(cursor)
        return reply(await service.list_(require(READ), student_id))

    @post(PATH, summary="Register a guardian for a child")
    async def add_guardian(
        student_id: FromPath[str], data: JSONBody[Body[NewGuardian]]
    ) -> Response[Envelope[GuardianView]]:
        return reply(await service.add(require(WRITE), student_id, data.data), 201)

    @patch(f"{PATH}/{{guardian_id:str}}", summary="Change a guardian's relation to a child")
    async def change_guardian(
        student_id: FromPath[str], guardian_id: FromPath[str], data: JSONBody[Body[GuardianshipChange]]
    ) -> Response[Envelope[GuardianView]]:
        return reply(await service.change(require(WRITE), student_id, guardian_id, data.data))

    @delete(f"{PATH}/{{guardian_id:str}}", status_code=200, summary="End a guardian's relation to a child")
    async def remove_guardian(
        student_id: FromPath[str], guardian_id: FromPath[str]
    ) -> Response[Envelope[None]]:
        await service.remove(require(WRITE), student_id, guardian_id)
        return reply(None)

    return [list_guardians, add_guardian, change_guardian, remove_guardian]
