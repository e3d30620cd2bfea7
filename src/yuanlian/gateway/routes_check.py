"""What a table of routes means beyond what its reader refuses: routes that no request reaches, and
mistakes that a browser would notice first. ``yuanlian routes check``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from yuanlian.gateway.pages import PATHS
from yuanlian.gateway.paths import safe_path
from yuanlian.gateway.pipeline import WEBSOCKET_PATH
from yuanlian.gateway.routes import INTERNAL, Route, RouteTable
from yuanlian.gateway.routes_explain import fits
from yuanlian.gateway.routes_file import Entry, RoutesError, read
from yuanlian.kit.errors import AppError

Severity = Literal["error", "warning", "note"]
Remark = tuple[Severity, str]

OWN_PATHS = frozenset(path.decode("ascii") for path in (*PATHS, WEBSOCKET_PATH))
_ANYTHING = "\0"
"""A segment that no literal one is: only wildcards fit it."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_THIS_MACHINE = ("http://localhost", "http://127.", "http://[::1]")


@dataclass(frozen=True, order=True)
class Finding:
    """``error``: the table is refused, or the route can do nothing. ``warning``: likely a mistake.
    ``note``: a consequence that is easily overlooked."""

    line: int
    severity: Severity
    text: str


def check(text: str, services: Collection[str] | None = None) -> list[Finding]:
    """In order of lines. ``services``: those there are; None leaves the names unchecked."""
    try:
        entries, refusals = read(text)
    except RoutesError as refusal:
        return [Finding(refusal.line, "error", refusal.reason)]
    found = [Finding(refusal.line, "error", refusal.reason) for refusal in refusals]
    table = _Table(entries)
    for line, entry, route in table.lines:
        remarks = [*table.reach(route), *_service(entry, services), *_upgrade(entry), *_cors(entry)]
        found += [Finding(line, severity, remark) for severity, remark in remarks]
    return sorted(found)


class _Table:
    """Asks the router itself who takes what."""

    def __init__(self, entries: list[tuple[int, Entry]]) -> None:
        self.lines = [(line, entry, Route.of(entry)) for line, entry in entries]
        self._table = RouteTable([route for _, _, route in self.lines])
        self._line_of = {id(route): line for line, _, route in self.lines}
        self._depth = max((route.path.count("/") for _, _, route in self.lines), default=0) + 1

    def reach(self, route: Route) -> Iterator[Remark]:
        """Whether any request can get there, and what never does."""
        reason = _never_asked(route.path.rstrip("/") or "/")
        if reason is not None:
            yield "error", f"unreachable: {reason}"
            return
        takers = {method: self._takers(method, route) for method in sorted(route.methods)}
        lost = [method for method, by in takers.items() if route not in by]
        if lost:
            which = "" if len(lost) == len(takers) else f" with {', '.join(lost)}"
            others = list(dict.fromkeys(by for method in lost for by in takers[method]))
            yield "error", f"unreachable{which}: every such path is left to {self._named(others)}"
        else:
            yield from self._refused_here(route)

    def _takers(self, method: str, route: Route) -> list[Route]:
        """Who takes requests that fit ``route``."""
        takers = []
        for path in _examples(route.path, self._depth):
            try:
                takers.append(self._table.match(method, path))
            except AppError:
                continue
        return takers

    def _named(self, routes: list[Route]) -> str:
        named = [f"`{route.path}` on line {self._line_of[id(route)]}" for route in routes]
        return " and ".join(named) or "routes with other methods"

    def _refused_here(self, route: Route) -> Iterator[Remark]:
        """The most specific path wins, and then refuses methods that a wider route would take."""
        path = next(_examples(route.path, self._depth))
        alike = [r for _, _, r in self.lines if _key(r) == _key(route)]
        if alike[0] is not route:
            return
        here = {method for other in alike for method in other.methods} | {"HEAD"}
        wider = [r for _, _, r in self.lines if _key(r) != _key(route) and fits(r.path, path)]
        refused = sorted({method for other in wider for method in other.methods} - here)
        if refused:
            yield "note", f"answers 405 to {', '.join(refused)}, which {self._named(wider)} would take"


def _never_asked(path: str) -> str | None:
    """Why no request has such a path, or gets to a route by it."""
    if path in OWN_PATHS:
        return f"the gateway answers `{path}` itself"
    if path.split("/")[1] == INTERNAL:
        return "services talk to each other below `/internal`, and no route leads there"
    if "%" in path:
        return "paths are compared decoded: write the character itself, not its `%…`"
    try:
        safe_path(path.replace(";", "%3B").encode())
    except AppError:
        return "the gateway refuses such paths (an empty or dot segment, `\\`, a control character)"
    return None


def _examples(pattern: str, depth: int) -> Iterator[str]:
    """Paths that fit the pattern and as few others as possible, up to deeper than any literal."""
    segments = [_ANYTHING if segment == "*" else segment for segment in pattern.strip("/").split("/")]
    if segments[-1] != "**":
        yield "/" + "/".join(segments)
        return
    for below in range(depth - len(segments) + 2):
        yield "/" + "/".join([*segments[:-1], *[_ANYTHING] * below])


def _key(route: Route) -> str:
    return route.path.rstrip("/")


def _service(entry: Entry, services: Collection[str] | None) -> Iterator[Remark]:
    if services is not None and entry.service not in services:
        yield "warning", f"no service is called `{entry.service}`; there are {', '.join(sorted(services))}"


def _upgrade(entry: Entry) -> Iterator[Remark]:
    if entry.upgrade and "GET" not in entry.methods:
        yield "warning", "upgrade: only a GET can leave HTTP, and the route takes none"


def _cors(entry: Entry) -> Iterator[Remark]:
    rule = entry.cors
    if rule is None:
        return
    more = sorted(set(rule.methods or ()) - set(entry.methods))
    if more:
        yield "warning", f"cors: allows {', '.join(more)}, which the route answers with 405"
    for origin in rule.origins:
        if origin.startswith("http://") and not origin.startswith(_THIS_MACHINE):
            yield "warning", f"cors: whoever is on the way can speak for `{origin}`; use https"
    if rule.headers is not None:
        sent = {header.lower() for header in rule.headers}
        if entry.auth and "authorization" not in sent:
            yield "warning", "cors: scripts cannot send their token; `headers` lacks Authorization"
        if _WITH_BODY & set(entry.methods) and "content-type" not in sent:
            yield "warning", "cors: scripts cannot send JSON; `headers` lacks Content-Type"
    if "OPTIONS" in entry.methods:
        yield "note", "cors: the gateway answers preflights; only other OPTIONS requests reach the service"
