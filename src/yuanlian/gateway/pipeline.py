"""A request's way through the gateway, top to bottom: path → route → token → tenant → rate limit →
upstream. The connection has given it an id and turns every ``AppError`` into an envelope."""

from __future__ import annotations

from collections.abc import Mapping

from yuanlian.gateway.authentication import Authenticator, Caller, TokenVerifier
from yuanlian.gateway.cors import asked_beforehand
from yuanlian.gateway.failed_tokens import PER_MINUTE, FailedTokens
from yuanlian.gateway.forwarding import repeated_headers, upstream_headers
from yuanlian.gateway.handler import PromptHandler
from yuanlian.gateway.http import Headers, Request, tokens
from yuanlian.gateway.origin import Origin, TrustedProxies
from yuanlian.gateway.pages import PATHS, Page, Pages
from yuanlian.gateway.paths import SafePath, safe_path
from yuanlian.gateway.rate_limit import limit_key, limit_lines, refusal
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.routes import Route, RouteTable
from yuanlian.gateway.tracing import trace
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.gateway.upstreams.tunnel import Admitted, TunnelUpstream
from yuanlian.gateway.upstreams.upstream import PromptUpstream, Then, Underway, Upstream, UpstreamRequest
from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import AppError, MethodNotAllowedError, ServiceUnavailableError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.revocation import Revocations
from yuanlian.kit.resilience.limiter import Decision, RateLimiter
from yuanlian.kit.tenancy.directory import TenantDirectory
from yuanlian.kit.tenancy.resolution import TenantResolver

WEBSOCKET_PATH = b"/ws"
_OURS = frozenset({WEBSOCKET_PATH, *PATHS})
_DEFAULT_BODY_LIMIT = 1024 * 1024
_SHORT_BODY = 4096
"""It has mostly arrived with its head: its sender may as well be checked once, when it is whole."""
_NEEDS_UPGRADE = Text("此地址需要 WebSocket 连接", "This address speaks WebSocket")


class Gateway(PromptHandler):
    """Implements ``Handler`` for the public listener.

    ``upstreams``: by service name, as in the routing table. ``trusted_proxies``: addresses or
    networks whose ``X-Forwarded-*`` headers are believed. ``websocket``: takes ``/ws`` over. ``tunnels``:
    set it to let routes with ``upgrade`` leave HTTP.
    """

    def __init__(
        self,
        table: RouteTable,
        upstreams: Mapping[str, Upstream],
        *,
        verifier: TokenVerifier,
        revocations: Revocations,
        identity: InternalIdentity,
        directory: TenantDirectory,
        limiter: RateLimiter,
        clock: Clock,
        pages: Pages,
        websocket: UpgradeHandler | None = None,
        trusted_proxies: TrustedProxies | None = None,
        bad_tokens_per_minute: int = PER_MINUTE,
    ) -> None:
        self.table = table
        self._upstreams = upstreams
        self._proxies = trusted_proxies or TrustedProxies()
        failed = FailedTokens(clock, bad_tokens_per_minute)
        self._authenticator = Authenticator(verifier, revocations, identity, clock, failed, self._network)
        self._resolver = TenantResolver(directory)
        self._limiter = limiter
        self._pages = pages
        self.websocket = websocket
        self.tunnels: UpgradeHandler | None = None

    def replace_routes(self, table: RouteTable) -> None:
        """The next request uses ``table``; those under way keep the route they have."""
        self.table = table

    def is_trusted_proxy(self, address: str) -> bool:
        """Whether many clients may stand behind this one address."""
        return self._proxies.trusts(address)

    # --- Handler ------------------------------------------------------------------------------

    def body_limit(self, request: Request) -> int:
        try:
            route = self._match(request, safe_path(request.path))
        except AppError:
            return _DEFAULT_BODY_LIMIT  # read and then told so, which keeps the connection
        if route.auth and not _is_short(request):
            self._authenticator.authenticate(request)  # nobody unknown makes us keep a body
        return route.max_body_bytes

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        if request.method != "GET":
            return None
        if request.path == WEBSOCKET_PATH:
            return self.websocket if b"websocket" in tokens(request.first.get(b"upgrade", b"")) else None
        return self.tunnels if self.tunnels is not None and self._tunnel(request) else None

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        path = safe_path(request.path)
        request.path = path.normal
        request.standing = request.standing or self.table.standard
        page = self._pages.find(path.normal)
        if page is not None:
            await self._show(page, request, response)
            return
        if path.normal == WEBSOCKET_PATH:
            raise ValidationError(_NEEDS_UPGRADE)
        if request.method == "OPTIONS" and self._answer_beforehand(request, path, response):
            return
        upstream, outgoing, _ = await self._admit(request, path, response)
        request.outgoing = outgoing
        await upstream.forward(outgoing, response)

    def begin(self, request: Request, response: ResponseWriter, then: Then) -> Underway | None:
        """``handle`` without waiting, for what is neither a page nor a preflight."""
        path = safe_path(request.path)
        normal = path.normal
        if normal not in _OURS and request.method != "OPTIONS":
            admitted = self._admit_at_once(request, path, response)
            if admitted is not None:
                request.path = normal
                upstream, request.outgoing, _ = admitted
                if isinstance(upstream, PromptUpstream):
                    underway = upstream.begin(request.outgoing, response, then)
                    if underway is not None:
                        return underway
                then(upstream.forward(request.outgoing, response))
                return None
        then(self.handle(request, response))
        return None

    async def admit_tunnel(self, request: Request, response: ResponseWriter) -> Admitted:
        """A request for which ``upgrade`` has found the tunnels: the same rules as for any other."""
        protocol = self._tunnel(request)
        path = safe_path(request.path)
        upstream, outgoing, caller = await self._admit(request, path, response)
        if protocol is None or not isinstance(upstream, TunnelUpstream):
            raise ServiceUnavailableError  # another table has come meanwhile
        return Admitted(upstream, outgoing, protocol, caller)

    def _network(self, request: Request) -> str:
        return self._proxies.origin(request).network

    # --- steps --------------------------------------------------------------------------------

    def _match(self, request: Request, path: SafePath) -> Route:
        try:
            route = request.matched = self.table.find(request.method, path)
        except AppError:
            request.standing = self.table.standard
            raise
        request.route = route.path
        request.standing = route.standing_for(request)
        return route

    async def _admit(
        self, request: Request, path: SafePath, response: ResponseWriter
    ) -> tuple[Upstream, UpstreamRequest, Caller | None]:
        """Everything that has to hold before an upstream hears of a request."""
        route = request.matched or self._match(request, path)
        origin = self._proxies.origin(request)
        traced = trace(request, origin.trusted)
        caller = self._authenticator.authenticate(request) if route.auth else None
        who = self._who_at_hand(request, caller, origin)
        if who is None:
            who = await self._who(request, caller, origin)
        if route.rate_limit is not None:
            key = limit_key(route, request, origin.network)
            decision = await self._limiter.hit(key, *route.rate_limit)
            _count(decision, response)
        return self._outgoing(request, path, route, origin, traced, caller, who)

    def _admit_at_once(
        self, request: Request, path: SafePath, response: ResponseWriter
    ) -> tuple[Upstream, UpstreamRequest, Caller | None] | None:
        """``_admit`` where the tenant is at hand and the limiter need not ask; None, and nothing is counted,
        where not."""
        route = request.matched or self._match(request, path)
        origin = self._proxies.origin(request)
        traced = trace(request, origin.trusted)
        caller = self._authenticator.authenticate(request) if route.auth else None
        who = self._who_at_hand(request, caller, origin)
        if who is None:
            return None
        if route.rate_limit is not None:
            key = limit_key(route, request, origin.network)
            decision = self._limiter.hit_at_once(key, *route.rate_limit)
            if decision is None:
                return None
            _count(decision, response)
        return self._outgoing(request, path, route, origin, traced, caller, who)

    def _outgoing(
        self,
        request: Request,
        path: SafePath,
        route: Route,
        origin: Origin,
        traced: Headers,
        caller: Caller | None,
        who: Headers,
    ) -> tuple[Upstream, UpstreamRequest, Caller | None]:
        upstream = self._upstreams.get(route.service)
        if upstream is None:
            raise ServiceUnavailableError
        if request.block is not None and caller is not None:
            headers, lines = repeated_headers(request, request.block, origin, who, traced)
        else:
            headers = upstream_headers(request, origin, who, traced, identified=caller is not None)
            lines = b""
        outgoing = UpstreamRequest(
            request.method,
            path.text,
            path.normal,
            request.query,
            headers,
            request.body,
            (origin.address, request.client[1]),
            origin.scheme,
            route.timeout_s,
            route.retries,
            route.path,
            lines=lines,
        )
        return upstream, outgoing, caller

    def _tunnel(self, request: Request) -> bytes | None:
        """What a request asks to speak instead of HTTP, when its route lets it and its upstream can."""
        try:
            route = request.matched or self._match(request, safe_path(request.path))
        except AppError:
            return None  # answered as any request
        if not route.upgrade or not isinstance(self._upstreams.get(route.service), TunnelUpstream):
            return None
        asked = tokens(request.first.get(b"upgrade", b""))
        return next((protocol for protocol in asked if protocol in route.upgrade), None)

    def _answer_beforehand(self, request: Request, path: SafePath, response: ResponseWriter) -> bool:
        """Whether it is a preflight to a route that other sites may use; it carries no token."""
        method = asked_beforehand(request)
        if method is None:
            return False
        try:
            route = self.table.find(method, path)
        except AppError:
            return False
        if route.cors is None:
            return False
        request.route = route.path
        request.standing = route.standing_for(request)
        response.send(route.cors.preflight(request.first[b"origin"]))
        return True

    def _who_at_hand(self, request: Request, caller: Caller | None, origin: Origin) -> Headers | None:
        """``_who``, where no tenant has to be looked up; else None."""
        if caller is None:
            host = origin.host.decode("latin-1")
            return [] if self._resolver.nobody_is_meant(_tenant_header(request), host) else None
        principal = caller.principal
        request.user_id = principal.user_id
        tenant = self._resolver.at_hand(principal, _tenant_header(request))
        if tenant is None:
            return None
        request.tenant_id = tenant.id
        return caller.headers

    async def _who(self, request: Request, caller: Caller | None, origin: Origin) -> Headers:
        """How the service is told who is asking."""
        header = _tenant_header(request)
        if caller is not None:
            request.tenant_id = (await self._resolver.for_principal(caller.principal, header)).id
            return caller.headers
        tenant = await self._resolver.for_anyone(header, origin.host.decode("latin-1"))
        if tenant is None:
            return []
        request.tenant_id = tenant.id
        return [(b"x-tenant-id", tenant.id.encode())]

    async def _show(self, page: Page, request: Request, response: ResponseWriter) -> None:
        request.route = request.path.decode("ascii")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowedError(headers=[("allow", "GET, HEAD")])
        response.send(await page())


def _is_short(request: Request) -> bool:
    length = request.first.get(b"content-length")
    return length is not None and int(length) <= _SHORT_BODY


def _tenant_header(request: Request) -> str | None:
    sent = request.first.get(b"x-tenant-id")
    return sent.decode("latin-1") if sent is not None else None


def _count(decision: Decision, response: ResponseWriter) -> None:
    response.extra = limit_lines(decision)
    if not decision.allowed:
        raise refusal(decision)
