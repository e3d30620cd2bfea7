"""Follows a feed of a service: what happens there is known here well within a second."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.errors import AppError
from yuanlian.kit.feed import Changes
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.principal import system

GATEWAY = system("gateway", PLATFORM)
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0

_log = structlog.get_logger("gateway.feeds")
T = TypeVar("T")


class FeedFollower(Generic[T]):
    """``kind``: ``Changes`` of what the feed carries. ``apply``: takes changes in; what it raises ends
    the follower."""

    def __init__(
        self,
        client: ServiceClient,
        service: str,
        path: str,
        kind: type[Changes[T]],
        apply: Callable[[Changes[T]], Awaitable[None]],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._service = service
        self._path = path
        self._kind = kind
        self._apply = apply
        self._clock = clock
        self._cursor = ""
        self._heard_at: float | None = None

    @property
    def age_s(self) -> float | None:
        """Seconds since the service last answered; None before it ever did."""
        return None if self._heard_at is None else self._clock() - self._heard_at

    async def follow(self) -> None:
        """Asks again and again, until cancelled. While the service is away, asks about once a second."""
        pause = 0.0
        while True:
            try:
                await self.ask()
                if pause:
                    _log.info("feed is back", path=self._path)
                pause = 0.0
            except (AppError, msgspec.ValidationError) as error:
                if not pause:
                    _log.warning("feed is away", path=self._path, reason=f"{type(error).__name__}: {error}")
                pause = min(max(pause * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret

    async def ask(self) -> None:
        """One question, which the service keeps until it has news or nothing has come for a while.

        Raises:
            AppError: the service does not answer, or refuses.
            msgspec.ValidationError: its answer is of another shape.
        """
        asked_at = self._clock()
        answer: Any = await self._client.call(
            self._service, "GET", self._path, principal=GATEWAY, query={"after": self._cursor}
        )
        changes = msgspec.convert(answer, self._kind)
        await self._apply(changes)
        self._cursor = changes.cursor
        # An answer is at least as new as the question: what was revoked before it is known now.
        self._heard_at = max(asked_at, self._heard_at or asked_at)
