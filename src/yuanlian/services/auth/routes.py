"""Answers to the gateways, outside the public API. ``contracts/auth.py``."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromQuery
from litestar.types import ControllerRouterHandler

from yuanlian.contracts.auth import REVOCATIONS_PATH
from yuanlian.kit.envelope import Envelope
from yuanlian.kit.feed import WAIT_S, Changes
from yuanlian.kit.http.app import reply, require_system
from yuanlian.kit.identity.revocation import Revoked
from yuanlian.services.auth.revocation import RevocationLog


def routes(log: RevocationLog) -> list[ControllerRouterHandler]:
    @get(REVOCATIONS_PATH, include_in_schema=False, summary="What was revoked")
    async def list_revocations(after: FromQuery[str] = "") -> Response[Envelope[Changes[Revoked]]]:
        require_system()
        return reply(await log.after(after, WAIT_S))

    return [list_revocations]
