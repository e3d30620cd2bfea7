"""Upgraded connections to HTTP upstreams (WebSocket, for one): admitted like any request, then bytes both
ways, unread. Source: RFC 9110 §7.8, RFC 6455 §4.

What speaks for a member ends with the member's token, with its revocation, or with the tenant.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import structlog

from yuanlian.gateway.authentication import Caller
from yuanlian.gateway.http import Headers, Request, tokens
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.response import BrokenResponseError, ResponseWriter
from yuanlian.gateway.upstreams.http import Opened
from yuanlian.gateway.upstreams.splice import End
from yuanlian.gateway.upstreams.upstream import ResponseSink, Upstream, UpstreamRequest
from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import (
    AppError,
    AuthenticationError,
    BadGatewayError,
    InternalError,
    ServiceUnavailableError,
)
from yuanlian.kit.identity.revocation import Revocations
from yuanlian.kit.observe.entry import AccessLine
from yuanlian.kit.resilience.keeping import kept
from yuanlian.kit.tenancy.directory import Tenant, TenantDirectory

_log = structlog.get_logger("gateway")
_CLIENT_LEFT = 499
_HOP = frozenset({b"connection", b"content-length", b"keep-alive", b"te", b"trailer", b"transfer-encoding",
                  b"upgrade", b"x-request-id"})  # fmt: skip


@runtime_checkable
class TunnelUpstream(Upstream, Protocol):
    """An upstream that can leave HTTP."""

    async def open_tunnel(
        self, request: UpstreamRequest, protocol: bytes, sink: ResponseSink
    ) -> Opened | None: ...


class Admitted(NamedTuple):
    """A request that may leave HTTP. ``caller``: None on a route without auth."""

    upstream: TunnelUpstream
    request: UpstreamRequest
    protocol: bytes
    caller: Caller | None


Admit = Callable[[Request, ResponseWriter], Awaitable[Admitted]]
"""The rules of the pipeline: raises the ``AppError`` that refuses the request; what it knows to add to
any answer goes to the writer."""


@dataclass(frozen=True, slots=True)
class TunnelLimits:
    """``idle_s``: without a byte in either direction. ``stall_s``: one end does not take what the other
    says. ``linger_s``: for the last bytes to go out."""

    tunnels: int = 20_000
    idle_s: float = 300.0
    stall_s: float = 60.0
    linger_s: float = 5.0
    sweep_s: float = 1.0


class Tunnels:
    """Implements ``UpgradeHandler``. ``tunnels``: those that there are. Create it on the event loop, once
    per process: it listens to revocations and to changes of tenants for as long as it lives."""

    def __init__(
        self,
        admit: Admit,
        observer: Observer,
        revocations: Revocations,
        directory: TenantDirectory,
        clock: Clock,
        limits: TunnelLimits | None = None,
    ) -> None:
        self._admit = admit
        self._observer = observer
        self._revocations = revocations
        self._clock = clock
        self._limits = limits or TunnelLimits()
        self.tunnels: set[Tunnel] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._stopping = False
        revocations.on_revoked(self._revoked)
        directory.on_change(self._tenant_changed)

    def __len__(self) -> int:
        return len(self.tunnels)

    def accept(self, transport: asyncio.Transport, request: Request, leftover: bytes) -> asyncio.Protocol:
        tunnel = Tunnel(transport, request, leftover, self._limits, self._ended)
        full = self._stopping or len(self.tunnels) >= self._limits.tunnels
        self.tunnels.add(tunnel)
        self._observer.connection_opened("websocket")
        tunnel.start(self._refuse if full else self._let_in, self._clock)
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(kept("deadlines of tunnels", self._sweep))
        return tunnel.client

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Closes all; what they still have to say gets ``timeout_s``."""
        self._stopping = True
        for tunnel in list(self.tunnels):
            tunnel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.tunnels:  # noqa: ASYNC110 - the last to leave has many ways to do so
                    await asyncio.sleep(0.01)
        for tunnel in list(self.tunnels):
            tunnel.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.sleep(0)

    async def _let_in(self, request: Request, response: ResponseWriter) -> Admitted:
        """Whose token was revoked between its verification and now, ``_revoked`` did not find yet."""
        admitted = await self._admit(request, response)
        caller = admitted.caller
        if caller is not None and self._revocations.is_revoked(caller.principal, caller.issued_at):
            raise AuthenticationError
        return admitted

    async def _refuse(self, request: Request, response: ResponseWriter) -> Admitted:
        del request, response  # there is no room for any
        raise ServiceUnavailableError

    def _ended(self, tunnel: Tunnel) -> None:
        self.tunnels.discard(tunnel)
        self._observer.connection_closed("websocket")
        self._observer.request_finished(tunnel.access_line())

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while self.tunnels:
            await asyncio.sleep(self._limits.sweep_s)
            now = loop.time()
            for tunnel in list(self.tunnels):
                tunnel.check_deadline(now)
        self._sweeping = None

    def _revoked(self, session_id: str | None, tenant_id: str | None, user_id: str | None) -> None:
        for tunnel in list(self.tunnels):
            if tunnel.caller is None:
                continue
            principal = tunnel.caller.principal
            member = (principal.tenant_id, principal.user_id) == (tenant_id, user_id)
            if member or (session_id is not None and principal.session_id == session_id):
                tunnel.close()

    def _tenant_changed(self, tenant: Tenant) -> None:
        if tenant.status != "active":
            for tunnel in list(self.tunnels):
                if tunnel.tenant_id == tenant.id:
                    tunnel.close()


class Tunnel:
    """One upgraded connection, from the request to the last byte."""

    def __init__(
        self,
        transport: asyncio.Transport,
        request: Request,
        leftover: bytes,
        limits: TunnelLimits,
        ended: Callable[[Tunnel], None],
    ) -> None:
        self._request = request
        self._limits = limits
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._status = 0
        self._until = math.inf
        self._over = False
        self.tunnelsed: Opened | None = None
        self._upstream: End | None = None
        self._task: asyncio.Task[None] | None = None
        self.client = End(transport, leftover, self._lost)
        self.caller: Caller | None = None

    def start(self, admit: Admit, clock: Clock) -> None:
        self._task = self._loop.create_task(self._run(admit, clock))

    async def _run(self, admit: Admit, clock: Clock) -> None:
        writer = ResponseWriter(self.client, self._request, keep_alive=False)
        try:
            await self._connect(admit, clock, writer)
        except Exception as error:  # noqa: BLE001 - the last one who can still answer with an envelope
            if not isinstance(error, AppError):
                _log.error("tunnel failed", request_id=self._request.request_id, exc_info=error)
            if writer.started:
                self.client.abort()
            else:
                writer.fail(error if isinstance(error, AppError) else InternalError())
        finally:
            self._task = None
            if self._upstream is None:
                self._status = writer.status
                self.close()

    async def _connect(self, admit: Admit, clock: Clock, writer: ResponseWriter) -> None:
        admitted = await admit(self._request, writer)
        self.caller = caller = admitted.caller
        if caller is not None:
            self._until = self._loop.time() + (caller.expires_ms - clock.now_ms()) / 1000
        self._request.outgoing = admitted.request
        opened = await admitted.upstream.open_tunnel(admitted.request, admitted.protocol, writer)
        if opened is not None:
            self._join(opened, admitted.protocol)

    def _join(self, opened: Opened, protocol: bytes) -> None:
        handed = opened.connection.transport
        if handed is None:
            raise BadGatewayError
        upstream = End(handed, b"", self._lost)
        taken = opened.connection.hand_over(upstream)
        if taken is None:
            raise BadGatewayError
        transport, headers, rest = taken
        try:
            head = _switching_head(headers, protocol, self._request.request_id)
        except BrokenResponseError as error:
            transport.abort()
            _log.error("upgrade failed", instance=opened.member.name, reason=str(error))
            raise BadGatewayError from None
        self.tunnelsed, self._upstream, self._status = opened, upstream, 101
        opened.member.outstanding += 1
        self.client.say(head)
        if rest:
            upstream.data_received(rest)
        self.client.join(upstream)
        upstream.join(self.client)

    @property
    def tenant_id(self) -> str:
        return self._request.tenant_id

    # --- ending -------------------------------------------------------------------------------

    def close(self) -> None:
        self._until = min(self._until, self._loop.time() + self._limits.linger_s)
        if self._task is not None:
            self._task.cancel()
        self.client.close()
        if self._upstream is not None:
            self._upstream.close()

    def abort(self) -> None:
        self.client.abort()
        if self._upstream is not None:
            self._upstream.abort()

    def check_deadline(self, now: float) -> None:
        ends = [end for end in (self.client, self._upstream) if end is not None]
        stalled = now >= min(end.paused_at for end in ends) + self._limits.stall_s
        if stalled or now >= self._until:
            self.abort()
        elif self._upstream is not None and now >= max(end.last for end in ends) + self._limits.idle_s:
            self.close()

    def _lost(self) -> None:
        """One end is gone; the other gets what is still on its way."""
        self.close()
        upstream = self._upstream
        if self._over or self.client.transport is not None or (upstream and upstream.transport is not None):
            return
        self._over = True
        if self.tunnelsed is not None:
            self.tunnelsed.member.outstanding -= 1
        self._ended(self)

    def access_line(self) -> AccessLine:
        request = self._request
        return AccessLine(
            time.time_ns(),
            request.method,
            request.route,
            self._status or _CLIENT_LEFT,
            request.tenant_id,
            request.user_id,
            request.request_id,
            request.trace_id,
            request.instance,
            time.perf_counter() - request.started,
            self.client.heard,
            self._upstream.heard if self._upstream is not None else 0,
        )


def _switching_head(headers: Headers, protocol: bytes, request_id: str) -> bytes:
    """The 101 as the client gets it.

    Raises:
        BrokenResponseError: it switches to something else than was asked for.
    """
    switched = [token for name, value in headers if name == b"upgrade" for token in tokens(value)]
    if switched != [protocol]:
        raise BrokenResponseError(f"switched to {switched}")
    lines = [
        (b"connection", b"upgrade"),
        (b"upgrade", protocol),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    lines += [pair for pair in headers if pair[0] not in _HOP]
    return b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n\r\n" % b"\r\n".join(map(b": ".join, lines))
