"""Signing in over HTTP. CONTRACT §5."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import caller, reply
from yuanlian.kit.http.pagination import only_page
from yuanlian.services.auth.signin.schemas import (
    Ended,
    Login,
    LoginResult,
    Me,
    PasswordChange,
    Refresh,
    SessionView,
    Switch,
    Tokens,
)
from yuanlian.services.auth.signin.service import SignInService
from yuanlian.services.auth.signin.sessions import Client

PATH = "/api/auth"
PUBLIC: list[dict[str, list[str]]] = [{}]
"""OpenAPI's empty requirement: no token is needed. Litestar leaves an empty list out."""


def routes(service: SignInService) -> list[ControllerRouterHandler]:
    @post(f"{PATH}/login", summary="Sign in", status_code=200, security=PUBLIC)
    async def login(
        data: JSONBody[Body[Login]], request: Request[Any, Any, Any]
    ) -> Response[Envelope[LoginResult]]:
        """Without ``tenantId``: the tenant of the domain, else the last used, else the first."""
        wanted = data.data.tenantId or request.headers.get("x-tenant-id")
        result = await service.login(data.data.username, data.data.password, wanted, client_of(request))
        return reply(result)

    @post(
        f"{PATH}/refresh",
        summary="A new pair of tokens for a refresh token",
        status_code=200,
        security=PUBLIC,
    )
    async def refresh(data: JSONBody[Body[Refresh]]) -> Response[Envelope[Tokens]]:
        """The refresh token is spent by it; using it again later ends the session."""
        return reply(await service.refresh(data.data.refreshToken))

    @post(f"{PATH}/switch", summary="Go on in another tenant", status_code=200)
    async def switch(data: JSONBody[Body[Switch]]) -> Response[Envelope[Tokens]]:
        return reply(await service.switch(caller(), data.data.tenantId))

    @post(f"{PATH}/logout", summary="Sign out", status_code=200)
    async def logout() -> Response[Envelope[Ended]]:
        """Access tokens of this session are refused from now on."""
        return reply(Ended(await service.logout(caller())))

    @get(f"{PATH}/me", summary="Who am I")
    async def me() -> Response[Envelope[Me]]:
        return reply(await service.me(caller()))

    @post(f"{PATH}/password", summary="Change the own password", status_code=200)
    async def password(
        data: JSONBody[Body[PasswordChange]], request: Request[Any, Any, Any]
    ) -> Response[Envelope[Ended]]:
        """Ends every other session."""
        change = data.data
        ended = await service.change_password(caller(), change.current, change.next, client_of(request))
        return reply(Ended(ended))

    @get(f"{PATH}/sessions", summary="Own sessions")
    async def sessions(cursor: FromQuery[str | None] = None) -> Response[Envelope[Page[SessionView]]]:
        """One page with all of them, at most 100: there is no cursor, and ``limit`` has no effect."""
        only_page(cursor)
        return reply(await service.sessions(caller()))

    @delete(f"{PATH}/sessions", summary="End every other session", status_code=200)
    async def end_others() -> Response[Envelope[Ended]]:
        return reply(Ended(await service.end_others(caller())))

    @delete(f"{PATH}/sessions/{{session_id:str}}", summary="End one of the own sessions", status_code=200)
    async def end_session(session_id: FromPath[str]) -> Response[Envelope[Ended]]:
        return reply(Ended(await service.end_session(caller(), session_id)))

    return [login, refresh, switch, logout, me, password, sessions, end_others, end_session]


def client_of(request: Request[Any, Any, Any]) -> Client:
    """The address is the connection's, which the gateway sets to the true origin. ``X-Forwarded-For``
    is the whole chain, and its first part is the client's to write."""
    address = request.client.host if request.client else ""
    return Client(address, request.headers.get("user-agent", ""))
