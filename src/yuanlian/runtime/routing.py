"""The file that the gateway's routes come from, and its changes while the platform runs. CONTRACT §4."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from yuanlian.gateway.answer_headers import DEFAULTS, HSTS
from yuanlian.gateway.pipeline import Gateway
from yuanlian.gateway.routes import DEFAULT_ROUTES, RouteTable
from yuanlian.gateway.routes_file import RoutesError
from yuanlian.runtime.refusals import Refusal
from yuanlian.runtime.settings import Settings

LOOK_S = 0.5

_log = structlog.get_logger("routes")

Stamp = tuple[int, int, int] | None
"""Modification time, size and inode; None while there is no file."""


Prepare = Callable[[RouteTable], Awaitable[None]]
"""What has to be done before a table takes over."""


class RoutesRefusedError(Refusal):
    """The file cannot be used. ``line`` is None when it cannot even be read."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        self.path = path
        self.line = line
        self.reason = reason
        super().__init__(f"{path}: {reason}" if line is None else f"{path}, line {line}: {reason}")


def text_of(path: Path) -> str:
    """Raises:
    RoutesRefusedError: it cannot be read, or is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RoutesRefusedError(path, None, error.strerror or str(error)) from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RoutesRefusedError(path, content.count(b"\n", 0, error.start) + 1, "is not UTF-8") from None


class RoutesSource:
    """``defaults``: headers of answers where a route says nothing.

    ``read`` and ``has_changed`` touch the disk, which may be far away: call off the event loop.
    """

    def __init__(self, path: Path, defaults: Mapping[str, str] = DEFAULTS) -> None:
        self.path = path
        self._defaults = defaults
        self._read: Stamp = None
        self._seen: Stamp = None

    def read(self) -> RouteTable:
        """The table that is there now.

        Raises:
            RoutesRefusedError: with the line and the reason.
        """
        # Before the content: what is written meanwhile makes another stamp.
        self._read = self._seen = self._stamp()
        try:
            return RouteTable.load(text_of(self.path), self._defaults)
        except RoutesError as error:
            raise RoutesRefusedError(self.path, error.line, error.reason) from None

    def has_changed(self) -> bool:
        """Whether there is something else than what was last read, and it came to rest: a file in the
        middle of being written may be a valid table of half the routes."""
        before, self._seen = self._seen, self._stamp()
        return self._seen == before != self._read

    def _stamp(self) -> Stamp:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def routes_of(settings: Settings) -> RoutesSource:
    secure = settings.tls_dir is not None and settings.hsts != "off"
    defaults = {**DEFAULTS, HSTS: settings.hsts} if secure else DEFAULTS
    return RoutesSource(settings.routes or DEFAULT_ROUTES, defaults)


async def reload(source: RoutesSource, gateway: Gateway, prepare: Prepare | None = None) -> None:
    """The new table takes over between two requests; a bad one is refused and the old one stays."""
    try:
        table = await asyncio.to_thread(source.read)
    except RoutesRefusedError as error:
        _log.error(
            "routes refused, the old table stays", path=str(error.path), line=error.line, reason=error.reason
        )
        return
    if prepare is not None:
        await prepare(table)
    gateway.replace_routes(table)
    _log.info("routes replaced", path=str(source.path), routes=len(table.routes))


async def follow(
    source: RoutesSource, gateway: Gateway, look_s: float = LOOK_S, prepare: Prepare | None = None
) -> None:
    """Reloads whenever the file has changed, until cancelled."""
    while True:
        await asyncio.sleep(look_s)
        if await asyncio.to_thread(source.has_changed):
            await reload(source, gateway, prepare)
