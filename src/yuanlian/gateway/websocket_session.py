"""The conversation on one WebSocket: authentication, subscriptions, resume. CONTRACT §7."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any

from yuanlian.gateway.websocket_admission import Admission
from yuanlian.gateway.websocket_connection import WebSocketConnection
from yuanlian.gateway.websocket_frames import Auth, Ping, Subscribe, Unsubscribe, parse
from yuanlian.gateway.websocket_limits import CloseCode, WebSocketLimits
from yuanlian.gateway.websocket_registry import SessionRegistry
from yuanlian.kit.clock import Clock
from yuanlian.kit.context import RequestContext, serving
from yuanlian.kit.envelope import STATUS
from yuanlian.kit.errors import (
    AppError,
    AuthenticationError,
    ErrorCode,
    RateLimitedError,
    ServiceUnavailableError,
    ValidationError,
)
from yuanlian.kit.i18n import Locale, Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.realtime.frames import text_frame
from yuanlian.kit.realtime.hub import Hub

log = logging.getLogger(__name__)

_CLOSE_CODES = {
    ErrorCode.AUTHENTICATION_ERROR: CloseCode.UNAUTHENTICATED,
    ErrorCode.VALIDATION_ERROR: CloseCode.UNAUTHENTICATED,
    ErrorCode.AUTHORIZATION_ERROR: CloseCode.FORBIDDEN,
    ErrorCode.RATE_LIMITED: CloseCode.TOO_MANY,
}
"""After a refused sign-in; anything else is our trouble, and the client may try again later."""

_TOO_LATE = Text("未在限定时间内认证", "Not authenticated in time")
_AUTH_FIRST = Text("请先认证", "Authenticate first")
_MALFORMED = Text("消息格式错误", "Malformed message")
_ALREADY = Text("已经认证", "Already authenticated")
_TOO_MANY_CONNECTIONS = Text("连接数过多", "Too many connections")
_TOO_MANY_CHANNELS = Text("订阅频道过多", "Too many channels")


class WebSocketSession:
    """Implements ``Subscriber`` for the hub and ``MessageListener`` for its connection.

    Messages are answered one after the other. When another comes while one waits for the tenant
    service, it waits its turn, and nothing more is read until then. ``network``: the client's address as
    it is counted.
    """

    __slots__ = (
        "_admission",
        "_channels",
        "_clock",
        "_connection",
        "_deadline",
        "_hub",
        "_limits",
        "_live",
        "_locale",
        "_malformed",
        "_network",
        "_principal",
        "_registry",
        "_request_id",
        "_waiting",
        "_work",
        "tenant_id",
        "user_id",
    )

    def __init__(
        self,
        connection: WebSocketConnection,
        admission: Admission,
        hub: Hub,
        registry: SessionRegistry,
        limits: WebSocketLimits,
        clock: Clock,
        request_id: str,
        locale: Locale,
        network: str,
    ) -> None:
        self._connection = connection
        self._admission = admission
        self._hub = hub
        self._registry = registry
        self._limits = limits
        self._clock = clock
        self._request_id = request_id
        self._locale = locale
        self._network = network
        self.tenant_id = ""
        self.user_id = ""
        self._principal: Principal | None = None
        self._live = False
        self._channels: set[str] = set()
        self._malformed = 0
        self._waiting: deque[bytes | None] | None = None
        self._work: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(limits.auth_timeout_s, self._not_authenticated)

    # As a subscriber of the hub

    def deliver(self, frame: bytes, cursor: str) -> None:  # noqa: ARG002 -- the frame says it already
        self._connection.write(frame)

    def close(self, code: int) -> None:
        self._connection.close(code)

    def resync(self) -> None:
        if self._live:
            self._send({"type": "resync"})

    # As the listener of the connection

    def receive(self, message: bytes | None) -> None:
        if self._work is not None:
            self._connection.pause_reading()
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(message)
            return
        slow = self._answer(message)
        if slow is not None:
            self._work = asyncio.get_running_loop().create_task(slow)
            self._work.add_done_callback(self._worked)

    def ended(self) -> None:
        self._deadline.cancel()
        self._live = False
        self._waiting = None
        if self._principal is not None:
            self._registry.remove(self, self._principal)
            self._hub.detach(self)
        if self._work is not None and self._work is not asyncio.current_task():
            self._work.cancel()

    def _worked(self, work: asyncio.Task[None]) -> None:
        self._work = None
        error = None if work.cancelled() else work.exception()
        if error is not None:
            log.error("websocket message failed", exc_info=error, extra={"request_id": self._request_id})
            self._connection.close(CloseCode.INTERNAL_ERROR)
        while self._waiting and self._work is None:
            self.receive(self._waiting.popleft())
        if self._work is None:
            self._waiting = None
            self._connection.resume_reading()

    def _answer(self, message: bytes | None) -> Coroutine[Any, Any, None] | None:
        """Answers at once, or returns what is left to do."""
        try:
            frame = parse(message) if message is not None else None
        except ValueError:
            frame = None
        if not self._live:
            return self._first(frame)
        match frame:
            case Ping(timestamp=timestamp):
                self._send({"type": "pong", "timestamp": timestamp})
            case Subscribe(channel=channel):
                return self._serving(self._subscribe(channel))
            case Unsubscribe(channel=channel):
                self._unsubscribe(channel)
            case Auth():
                self._send_error(ValidationError(_ALREADY))
            case None:
                self._reject_malformed()
        return None

    def _first(self, frame: object) -> Coroutine[Any, Any, None] | None:
        if isinstance(frame, Auth):
            return self._serving(self._authenticate(frame))
        self._refuse(ValidationError(_MALFORMED) if frame is None else AuthenticationError(_AUTH_FIRST))
        return None

    async def _serving(self, work: Coroutine[Any, Any, None]) -> None:
        with serving(RequestContext(self._request_id, self._locale, self._principal)):
            await work

    # Authentication

    async def _authenticate(self, frame: Auth) -> None:
        try:
            principal = self._admission.identify(frame, self._network)
            self._register(principal)
            channels = await self._admission.default_channels(principal)
            await self._hub.ready(principal.tenant_id)
        except AppError as error:
            self._refuse(error)
            return
        if self._connection.open:
            self._go_live(principal, channels, frame.resume)

    def _register(self, principal: Principal) -> None:
        """Before anything is awaited, so that a revocation or a closed user meanwhile reaches us."""
        if (
            len(self._registry.of_member(principal.tenant_id, principal.user_id))
            >= self._limits.connections_per_user
        ):
            raise RateLimitedError(_TOO_MANY_CONNECTIONS)
        self._principal = principal
        self.tenant_id = principal.tenant_id
        self.user_id = principal.user_id
        self._registry.add(self, principal)
        self._hub.attach(self, ())

    def _go_live(self, principal: Principal, channels: tuple[str, ...], resume: str | None) -> None:
        """One turn of the event loop: nothing is published between the cursor, the replay and the
        first live event."""
        self._live = True
        self._deadline.cancel()
        loop = asyncio.get_running_loop()
        lifetime = principal.expires_at - self._clock.now_ms() / 1000
        self._deadline = loop.call_later(max(0.0, lifetime), self.close, CloseCode.UNAUTHENTICATED)
        self._channels.update(channels)
        cursor = self._hub.attach(self, channels)
        self._send(
            {"type": "auth_success", "userId": self.user_id, "tenantId": self.tenant_id, "cursor": cursor}
        )
        if resume is not None and not self._hub.replay(self, resume):
            self.resync()

    def _not_authenticated(self) -> None:
        """The client was silent, or the tenant service is: only the former is the client's fault."""
        silent = self._principal is None
        self._refuse(AuthenticationError(_TOO_LATE) if silent else ServiceUnavailableError())

    def _refuse(self, error: AppError) -> None:
        self._send({"type": "auth_error", **self._described(error)})
        self.close(_CLOSE_CODES.get(error.code, CloseCode.TRY_AGAIN_LATER))

    # Subscriptions

    async def _subscribe(self, channel: str) -> None:
        principal = self._principal
        if principal is None:
            raise RuntimeError("a subscription before authentication")
        try:
            followed = self._admission.own_channel(principal, channel)
            if followed is None:
                if len(self._channels) >= self._limits.max_channels and channel not in self._channels:
                    raise RateLimitedError(_TOO_MANY_CHANNELS)
                await self._admission.check_channel(principal, channel)
                followed = channel
        except AppError as error:
            self._send_error(error, channel=channel)
            return
        if self._connection.open:
            self._channels.add(followed)
            cursor = self._hub.subscribe(self, followed)
            self._send({"type": "subscribed", "channel": channel, "cursor": cursor})

    def _unsubscribe(self, channel: str) -> None:
        principal = self._principal
        if principal is None:
            raise RuntimeError("a subscription before authentication")
        try:
            followed = self._admission.own_channel(principal, channel) or channel
        except AppError as error:
            self._send_error(error, channel=channel)
            return
        self._channels.discard(followed)
        self._hub.unsubscribe(self, followed)
        self._send({"type": "unsubscribed", "channel": channel})

    # Words

    def _reject_malformed(self) -> None:
        self._malformed += 1
        self._send_error(ValidationError(_MALFORMED))
        if self._malformed >= self._limits.max_malformed:
            self.close(CloseCode.POLICY_VIOLATION)

    def _send_error(self, error: AppError, **about: str) -> None:
        self._send({"type": "error", **self._described(error), **about})

    def _described(self, error: AppError) -> dict[str, Any]:
        return {"code": STATUS[error.code], "message": error.message.render(self._locale)}

    def _send(self, message: dict[str, Any]) -> None:
        self._connection.write(text_frame(message))
