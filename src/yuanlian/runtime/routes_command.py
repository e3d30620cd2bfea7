"""``yuanlian routes``: print, check and ask a table of routes. Nothing has to run for it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from yuanlian.contracts.edge import EVERY_SERVICE
from yuanlian.gateway import routes_check
from yuanlian.gateway.routes import DEFAULT_ROUTES, Route
from yuanlian.gateway.routes_explain import explain
from yuanlian.gateway.routes_file import RoutesError, parse
from yuanlian.runtime.console import console, say, table
from yuanlian.runtime.routing import RoutesRefusedError, RoutesSource, text_of
from yuanlian.runtime.settings import Settings

_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}


async def show(settings: Settings) -> None:
    """Raises:
    RoutesRefusedError: the file cannot be used.
    """
    source = RoutesSource(_file(settings, None))
    shown = table("path", "service", "methods", "token", "limit")
    for route in (await asyncio.to_thread(source.read)).routes:
        methods = " ".join(sorted(route.methods))
        shown.add_row(route.path, route.service, methods, "yes" if route.auth else "no", _limit(route))
    console().print(shown)


async def check(settings: Settings, file: Path | None) -> None:
    """One line per finding, in the manner of compilers. Exits with 1 when there is an error.

    Raises:
        RoutesRefusedError: the file cannot be read.
    """
    path = _file(settings, file)
    text = await asyncio.to_thread(text_of, path)
    findings = routes_check.check(text, _services(settings))
    for finding in findings:
        say(f"{path}:{finding.line}: {finding.severity}: {finding.text}", _STYLES[finding.severity])
    counts = [sum(finding.severity == severity for finding in findings) for severity in ("error", "warning")]
    say(f"{path}: {_count(counts[0], 'error')}, {_count(counts[1], 'warning')}")
    if counts[0]:
        sys.exit(1)


async def match(settings: Settings, method: str, path: str, file: Path | None) -> None:
    """The verdict, then every route that fits the path. Exits with 1 when the request is refused.

    Raises:
        RoutesRefusedError: the file cannot be used.
    """
    source = _file(settings, file)
    text = await asyncio.to_thread(text_of, source)
    try:
        explained = explain(text, method, path)
    except RoutesError as error:
        raise RoutesRefusedError(source, error.line, error.reason) from None
    say(f"{method} {explained.path}: {explained.status}, {explained.outcome}")
    if explained.candidates:
        shown = table("", "line", "path", "methods", "why")
        for candidate in explained.candidates:
            route = candidate.route
            verdict = "wins" if candidate.wins else "loses"
            methods = " ".join(sorted(route.methods))
            shown.add_row(verdict, str(candidate.line), route.path, methods, candidate.why)
        console().print(shown)
    say(f"{_count(explained.others, 'other route')} of {source} do{'es' * (explained.others == 1)} not fit")
    if explained.status >= 400:
        sys.exit(1)


def _file(settings: Settings, file: Path | None) -> Path:
    return file or settings.routes or DEFAULT_ROUTES


def _services(settings: Settings) -> set[str] | None:
    """The platform's own and those that a setting names; None when a setting stands for any."""
    if EVERY_SERVICE in settings.upstreams:
        return None
    packaged = {entry.service for entry in parse(DEFAULT_ROUTES.read_text("utf-8"))}
    return packaged | set(settings.upstreams)


def _limit(route: Route) -> str:
    if route.rate_limit is None:
        return "-"
    requests, window_ms = route.rate_limit
    return f"{requests} / {window_ms / 1000:g} s per {route.limit_by}"


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'s' * (number != 1)}"
