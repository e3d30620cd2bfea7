"""Invitations over HTTP: the person's own, in whichever tenant they are signed in."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ControllerRouterHandler

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import caller, reply
from yuanlian.kit.http.pagination import only_page
from yuanlian.services.auth.invitations.schemas import Acceptance, Declined, InvitationView
from yuanlian.services.auth.invitations.service import InvitationService
from yuanlian.services.auth.signin.routes import client_of
from yuanlian.services.auth.signin.schemas import MembershipView

PATH = "/api/auth/invitations"
ONE = f"{PATH}/{{invitation_id:str}}"


def routes(service: InvitationService) -> list[ControllerRouterHandler]:
    @get(PATH, summary="Own invitations")
    async def list_invitations(
        cursor: FromQuery[str | None] = None,
    ) -> Response[Envelope[Page[InvitationView]]]:
        """One page with all of them: there is no cursor, and ``limit`` has no effect."""
        only_page(cursor)
        return reply(await service.list_(caller()))

    @post(f"{ONE}/accept", summary="Take a seat in a kindergarten", status_code=200)
    async def accept_invitation(
        invitation_id: FromPath[str], data: JSONBody[Body[Acceptance]], request: Request[Any, Any, Any]
    ) -> Response[Envelope[MembershipView]]:
        """``password`` is the kindergarten's for this seat, not one's own: it shows that the account is
        of the person who was meant. From then on only the person changes the account's password."""
        client = client_of(request)
        return reply(await service.accept(caller(), invitation_id, data.data.password, client.address))

    @post(f"{ONE}/decline", summary="Decline an invitation", status_code=200)
    async def decline_invitation(invitation_id: FromPath[str]) -> Response[Envelope[Declined]]:
        await service.decline(caller(), invitation_id)
        return reply(Declined(invitation_id))

    return [list_invitations, accept_invitation, decline_invitation]
