"""Answers to other parts of the platform, in the name of the caller. ``contracts/tenant.py``.

Outside the public API: no route of the gateway leads here, and the OpenAPI document leaves them out.
"""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromQuery
from litestar.types import ControllerRouterHandler

from yuanlian.contracts.tenant import (
    ATTRIBUTES_PATH,
    CHANNEL_CHECK_PATH,
    CHANNELS_PATH,
    RECIPIENTS_PATH,
    Attributes,
    Audience,
    Channels,
)
from yuanlian.kit.envelope import Envelope
from yuanlian.kit.http.app import caller, reply, require
from yuanlian.services.tenant.audience.service import ANNOUNCE, AudienceService


def routes(service: AudienceService) -> list[ControllerRouterHandler]:
    @get(
        CHANNELS_PATH,
        include_in_schema=False,
        summary="The realtime channels the caller follows without asking",
    )
    async def list_channels() -> Response[Envelope[Channels]]:
        return reply(await service.channels(caller()))

    @get(
        CHANNEL_CHECK_PATH,
        include_in_schema=False,
        summary="Whether the caller may follow a realtime channel",
    )
    async def check_channel(channel: FromQuery[str]) -> Response[Envelope[Channels]]:
        return reply(await service.check(caller(), channel))

    @get(RECIPIENTS_PATH, include_in_schema=False, summary="Whom an announcement to an audience reaches")
    async def list_recipients(audience: FromQuery[str]) -> Response[Envelope[Audience]]:
        return reply(await service.recipients(require(ANNOUNCE), audience))

    @get(ATTRIBUTES_PATH, include_in_schema=False, summary="What permission conditions know about the caller")
    async def list_attributes() -> Response[Envelope[Attributes]]:
        return reply(await service.attributes(caller()))

    return [list_attributes, list_channels, check_channel, list_recipients]
