"""Which route takes a request, and why each other that fits its path does not. ``yuanlian routes match``."""

from __future__ import annotations

from dataclasses import dataclass

from yuanlian.gateway.pages import PATHS
from yuanlian.gateway.paths import safe_path
from yuanlian.gateway.pipeline import WEBSOCKET_PATH
from yuanlian.gateway.routes import INTERNAL, Route
from yuanlian.gateway.routes_file import read
from yuanlian.kit.errors import AppError


@dataclass(frozen=True)
class Candidate:
    """A route whose path fits."""

    line: int
    route: Route
    wins: bool
    why: str


@dataclass(frozen=True)
class Explanation:
    """``path``: as the gateway reads it; the sent one when it refuses it. ``status``: 200 when a route
    takes the request or the gateway answers it, else what a client gets. ``candidates``: the most
    specific first. ``others``: how many routes do not fit."""

    path: str
    status: int
    outcome: str
    candidates: list[Candidate]
    others: int


def explain(text: str, method: str, path: str) -> Explanation:
    """``path``: as in a request target, its query is ignored; characters that need escapes may be given
    plainly.

    Raises:
        RoutesError: the table cannot be used.
    """
    entries, refusals = read(text)
    if refusals:
        raise refusals[0]
    routes = [(line, Route.of(entry)) for line, entry in entries]
    sent = path.partition("?")[0]
    try:
        read_as = safe_path(sent.encode()).text if sent.startswith("/") else None
    except AppError:
        read_as = None
    if read_as is None:
        return Explanation(sent, 400, "refused: this path can be read in several ways", [], len(routes))
    ranked = sorted(
        ((line, route) for line, route in routes if fits(route.path, read_as)),
        key=lambda found: specificity(found[1].path, read_as),
    )
    others = len(routes) - len(ranked)
    reserved = _reserved(read_as)
    if reserved is not None:
        status, outcome = reserved
        lost = [Candidate(line, route, False, "does not come to it") for line, route in ranked]
        return Explanation(read_as, status, outcome, lost, others)
    return _ranked(method, read_as, ranked, others)


def _ranked(method: str, path: str, ranked: list[tuple[int, Route]], others: int) -> Explanation:
    if not ranked:
        return Explanation(path, 404, "no route fits this path", [], others)
    best = ranked[0][1]
    alike = [route for _, route in ranked if _same_path(route, best)]
    winner = next((route for route in alike if method in route.methods), None)
    candidates = [
        Candidate(line, route, route is winner, _why(route, best, winner)) for line, route in ranked
    ]
    if winner is None:
        allowed = ", ".join(sorted({allowed for route in alike for allowed in route.methods}))
        return Explanation(path, 405, f"the most specific path takes only {allowed}", candidates, others)
    return Explanation(path, 200, f"goes to {winner.service}", candidates, others)


def _why(route: Route, best: Route, winner: Route | None) -> str:
    if route is winner:
        return "the most specific path"
    if _same_path(route, best):
        return f"the same path, for {', '.join(sorted(route.methods))}"
    says, best_says = _first_difference(route.path, best.path)
    return f"wider: `{says}` where `{best.path}` says {best_says}"


def _first_difference(pattern: str, best: str) -> tuple[str, str]:
    ours, theirs = pattern.strip("/").split("/"), best.strip("/").split("/")
    for index, segment in enumerate(ours):
        other = theirs[index] if index < len(theirs) else None
        if segment != other:
            return segment, f"`{other}`" if other is not None else "nothing more"
    return ours[-1], f"`{theirs[len(ours)]}`"


def _same_path(route: Route, other: Route) -> bool:
    return route.path.rstrip("/") == other.path.rstrip("/")


def _reserved(path: str) -> tuple[int, str] | None:
    if path.encode() in PATHS:
        return 200, "the gateway answers it itself, whatever a table says"
    if path.encode() == WEBSOCKET_PATH:
        return 200, "the gateway's WebSocket, whatever a table says"
    if path.split("/")[1] == INTERNAL:
        return 404, "nothing from outside gets below `/internal`, whatever a table says"
    return None


def fits(pattern: str, path: str) -> bool:
    """Whether a decoded path fits, the methods aside."""
    wanted, segments = pattern.strip("/").split("/"), path.strip("/").split("/")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        if len(segments) < len(wanted):
            return False
        segments = segments[: len(wanted)]
    pairs = zip(wanted, segments, strict=False)
    return len(wanted) == len(segments) and all(w in ("*", segment) for w, segment in pairs)


def specificity(pattern: str, path: str) -> tuple[int, ...]:
    """Sorts the patterns that fit a path, the one that wins first: from the left, a literal segment
    before ``*`` before ``**``."""
    segments = path.strip("/").split("/")
    ranks = [{"*": 1, "**": 2}.get(segment, 0) for segment in pattern.strip("/").split("/")]
    return (*ranks, 0) if len(ranks) == len(segments) and ranks[-1] != 2 else tuple(ranks)
