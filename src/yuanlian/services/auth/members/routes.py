"""Users of a kindergarten over HTTP. CONTRACT §5."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit
from yuanlian.services.auth.members.schemas import NewUser, Removed, UserChange, UserView
from yuanlian.services.auth.members.service import READ, WRITE, MemberService

PATH = "/api/auth/users"
ONE = f"{PATH}/{{user_id:str}}"


def routes(service: MemberService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="List the users of this kindergarten")
    async def list_users(
        cursor: FromQuery[str | None] = None, limit: Limit = DEFAULT_LIMIT
    ) -> Response[Envelope[Page[UserView]]]:
        return reply(await service.list_(require(READ), cursor, limit))

    @post(PATH, summary="Add a user to this kindergarten")
    async def create_user(data: JSONBody[Body[NewUser]]) -> Response[Envelope[UserView]]:
        """The seat is ``invited`` until the person takes it: by signing in with the password given here
        or, where the username is that of an account already, by accepting the invitation with it.
        The answer is the same, so that it does not tell who has an account."""
        return reply(await service.create(require(WRITE), data.data), 201)

    @get(ONE, summary="One user of this kindergarten")
    async def get_user(user_id: FromPath[str]) -> Response[Envelope[UserView]]:
        return reply(await service.get(require(READ), user_id))

    @patch(ONE, summary="Change a user's roles, status, name or password")
    async def change_user(
        user_id: FromPath[str], data: JSONBody[Body[UserChange]]
    ) -> Response[Envelope[UserView]]:
        """New roles or another status end the tokens of the old ones at once."""
        return reply(await service.change(require(WRITE), user_id, data.data))

    @delete(ONE, summary="Remove a user from this kindergarten", status_code=200)
    async def remove_user(user_id: FromPath[str]) -> Response[Envelope[Removed]]:
        await service.remove(require(WRITE), user_id)
        return reply(Removed(user_id))

    return [list_users, create_user, get_user, change_user, remove_user]
