"""The routing table: which path goes to which service, and under which rules.

Source: specification "API网关集成", CONTRACT §4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yuanlian.gateway.answer_headers import DEFAULTS, RATE_LIMIT_HEADERS, STANDARD, AnswerHeaders
from yuanlian.gateway.cors import REPLACED, Cors
from yuanlian.gateway.http import Request
from yuanlian.gateway.paths import SafePath
from yuanlian.gateway.routes_file import Entry, parse
from yuanlian.kit.errors import MethodNotAllowedError, NotFoundError
from yuanlian.kit.i18n import Text

DEFAULT_ROUTES = Path(__file__).with_name("routes.yaml")
_NO_ROUTE = Text("接口不存在", "No such endpoint")
_ANY_DEPTH = "**"
_ONE_SEGMENT = "*"
_REMEMBERED = 4096
_REMEMBERED_LENGTH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One line of the table. ``timeout_s``: an upstream's, for an answer to begin and for each pause in it;
    in this process, for the whole. ``rate_limit``: requests and milliseconds, or None. ``upgrade``: what
    it may leave HTTP for. ``standing``: what every answer carries; to scripts of the origins
    that ``cors`` lists, ``standing_by_origin``."""

    path: str
    service: str
    methods: frozenset[str]
    auth: bool
    rate_limit: tuple[int, int] | None
    limit_by: str
    timeout_s: float
    max_body_bytes: int
    retries: int
    cors: Cors | None
    standing: AnswerHeaders
    standing_by_origin: dict[bytes, AnswerHeaders]
    upgrade: frozenset[bytes]

    @classmethod
    def of(
        cls, entry: Entry, defaults: Mapping[str, str] = DEFAULTS, standard: AnswerHeaders = STANDARD
    ) -> Route:
        methods = frozenset(entry.methods)
        limit = entry.rateLimit
        cors = Cors(entry.cors, methods) if entry.cors is not None else None
        return cls(
            path=entry.path,
            service=entry.service,
            methods=methods | {"HEAD"} if "GET" in methods else methods,
            auth=entry.auth,
            rate_limit=(limit.max, limit.windowMs) if limit else None,
            limit_by=entry.limitBy,
            timeout_s=entry.timeoutMs / 1000,
            max_body_bytes=entry.maxBodyBytes,
            retries=entry.retries,
            cors=cors,
            standing=_standing(entry, cors, None, defaults) or standard,
            standing_by_origin={
                o: _standing(entry, cors, o, defaults) or standard for o in (cors.origins if cors else ())
            },
            upgrade=frozenset(protocol.encode() for protocol in entry.upgrade),
        )

    def standing_for(self, request: Request) -> AnswerHeaders:
        if self.cors is None:
            return self.standing
        return self.standing_by_origin.get(request.first.get(b"origin", b""), self.standing)


def _standing(
    entry: Entry, cors: Cors | None, origin: bytes | None, defaults: Mapping[str, str]
) -> AnswerHeaders | None:
    """None where it says nothing of its own."""
    replaced = (REPLACED if cors else frozenset()) | (RATE_LIMIT_HEADERS if entry.rateLimit else frozenset())
    if not replaced and not entry.headers:
        return None
    return AnswerHeaders(entry.headers, cors.lines(origin) if cors else b"", replaced, defaults)


@dataclass(slots=True)
class _Node:
    """One position in the tree of path segments. ``exact``: routes that end here; ``below``: routes
    that end in ``/**`` here. Routes of one path differ in their methods."""

    literal: dict[str, _Node] = field(default_factory=dict)
    one: _Node | None = None
    exact: list[Route] = field(default_factory=list)
    below: list[Route] = field(default_factory=list)


INTERNAL = "internal"
"""What services say to each other is below it, and not for the public."""


class RouteTable:
    """Immutable; a new file makes a new table. ``standard``: what stands on every answer to what is no
    route's."""

    def __init__(self, routes: Sequence[Route], standard: AnswerHeaders = STANDARD) -> None:
        self.routes = tuple(routes)
        self.standard = standard
        self._root = _Node()
        self._found: dict[tuple[str, bytes], Route] = {}
        for route in routes:
            self._insert(route)

    @classmethod
    def load(cls, text: str, defaults: Mapping[str, str] = DEFAULTS) -> RouteTable:
        """Reads the YAML text of a table. ``defaults``: headers of answers where a route says nothing.

        Raises:
            RoutesError: with the line and the reason.
        """
        standard = STANDARD if defaults is DEFAULTS else AnswerHeaders(defaults=defaults)
        return cls([Route.of(entry, defaults, standard) for entry in parse(text)], standard)

    def match(self, method: str, path: str) -> Route:
        """The route of the most specific path: literal before ``*`` before ``**``, from the left.

        Raises:
            NotFoundError: no path matches. MethodNotAllowedError: with ``Allow``.
        """
        segments = path.strip("/").split("/")
        # Whatever a table says (``/**``), nothing from outside gets below ``/internal``.
        candidates = _find(self._root, segments, 0) if segments[0] != INTERNAL else []
        for route in candidates:
            if method in route.methods:
                return route
        if not candidates:
            raise NotFoundError(_NO_ROUTE)
        allowed = sorted({method for route in candidates for method in route.methods})
        raise MethodNotAllowedError(headers=[("allow", ", ".join(allowed))])

    def find(self, method: str, path: SafePath) -> Route:
        """``match``, remembered, for clients ask the same again and again.

        Raises:
            NotFoundError, MethodNotAllowedError: as ``match`` does.
        """
        key = method, path.normal
        route = self._found.get(key)
        if route is None:
            route = self.match(method, path.text)
            if len(path.normal) <= _REMEMBERED_LENGTH:
                if len(self._found) >= _REMEMBERED:
                    self._found.clear()
                self._found[key] = route
        return route

    def _insert(self, route: Route) -> None:
        node = self._root
        for segment in route.path.strip("/").split("/"):
            if segment == _ANY_DEPTH:
                node.below.append(route)
                return
            if segment == _ONE_SEGMENT:
                node.one = node.one or _Node()
                node = node.one
            else:
                node = node.literal.setdefault(segment, _Node())
        node.exact.append(route)


def _find(node: _Node, segments: list[str], depth: int) -> list[Route]:
    if depth == len(segments):
        return node.exact or node.below
    literal = node.literal.get(segments[depth])
    if literal is not None and (found := _find(literal, segments, depth + 1)):
        return found
    if node.one is not None and (found := _find(node.one, segments, depth + 1)):
        return found
    return node.below
