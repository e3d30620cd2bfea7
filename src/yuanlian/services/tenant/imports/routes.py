"""Imports over HTTP. CONTRACT §6."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, post
from litestar.datastructures import FormMultiDict, UploadFile
from litestar.exceptions.http_exceptions import ClientException
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Envelope
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.http.app import reply, require
from yuanlian.services.tenant.imports.schemas import ImportReport
from yuanlian.services.tenant.imports.service import WRITE, ImportService

PATH = "/api/tenant/students/import"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# What browsers call a CSV file, or a file they do not know; its first bytes tell the rest.
_LOOSE = ("text/csv", "application/csv", "text/plain", "application/vnd.ms-excel", "application/octet-stream")
_FORM = "multipart/form-data"
DryRun = Annotated[bool, QueryParameter(name="dryRun", description="Report errors, write nothing")]


def routes(service: ImportService) -> list[ControllerRouterHandler]:
    @post(PATH, summary="Import children from CSV or .xlsx (the body, or the form field `file`)")
    async def import_students(
        request: Request[Any, Any, Any], dry_run: DryRun = False
    ) -> Response[Envelope[ImportReport]]:
        principal = require(WRITE)
        content, media_type = await _upload(request)
        report = await service.run(principal, content, workbook=media_type == XLSX, dry_run=dry_run)
        return reply(report, 200 if dry_run else 201)

    return [import_students]


async def _upload(request: Request[Any, Any, Any]) -> tuple[bytes, str]:
    """The file and its media type, from the body itself or from a form."""
    media_type = request.content_type[0]
    if media_type != _FORM:
        return await request.body(), _accepted(media_type)
    file = (await _form(request)).get("file")
    if not isinstance(file, UploadFile):
        raise ValidationError.of("file", "缺少文件", "is a missing file")
    return await file.read(), _accepted(file.content_type.partition(";")[0].strip().lower())


async def _form(request: Request[Any, Any, Any]) -> FormMultiDict:
    try:
        return await request.form()
    except ClientException as error:
        if error.status_code == 413:
            raise
        raise ValidationError.of("file", "表单格式不正确", "is in a malformed form") from None


def _accepted(media_type: str) -> str:
    if media_type != XLSX and media_type not in _LOOSE:
        raise ValidationError.of(
            "file", "只接受 CSV 或 .xlsx 文件", "must be CSV (text/csv) or an .xlsx workbook"
        )
    return media_type
