"""Children over HTTP. CONTRACT §6."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit
from yuanlian.services.tenant.roster.students.schemas import (
    NewStudent,
    StudentChange,
    StudentFilter,
    StudentView,
)
from yuanlian.services.tenant.roster.students.service import READ, WRITE, StudentService
from yuanlian.services.tenant.wire import StudentStatus

PATH = "/api/tenant/students"
InClass = Annotated[str | None, QueryParameter(name="classId")]
Search = Annotated[str | None, QueryParameter(name="q", max_length=50, description="Part of a name")]


def routes(service: StudentService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="List the children the caller may see")
    async def list_students(
        class_id: InClass = None,
        status: FromQuery[StudentStatus | None] = None,
        q: Search = None,
        cursor: FromQuery[str | None] = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> Response[Envelope[Page[StudentView]]]:
        filter_ = StudentFilter(class_id, status, q)
        return reply(await service.list_(require(READ), filter_, cursor, limit))

    @post(PATH, summary="Enrol a child")
    async def create_student(data: JSONBody[Body[NewStudent]]) -> Response[Envelope[StudentView]]:
        return reply(await service.create(require(WRITE), data.data), 201)

    @get(f"{PATH}/{{student_id:str}}", summary="Show a child")
    async def get_student(student_id: FromPath[str]) -> Response[Envelope[StudentView]]:
        return reply(await service.get(require(READ), student_id))

    @patch(f"{PATH}/{{student_id:str}}", summary="Change a child, its class or its status")
    async def change_student(
        student_id: FromPath[str], data: JSONBody[Body[StudentChange]]
    ) -> Response[Envelope[StudentView]]:
        return reply(await service.change(require(WRITE), student_id, data.data))

    @delete(f"{PATH}/{{student_id:str}}", status_code=200, summary="Delete a child entered by mistake")
    async def remove_student(student_id: FromPath[str]) -> Response[Envelope[None]]:
        await service.remove(require(WRITE), student_id)
        return reply(None)

    return [list_students, create_student, get_student, change_student, remove_student]
