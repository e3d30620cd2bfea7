"""Health of the parts this process depends on. Source: specification "健康检查"."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from yuanlian.kit.clock import Clock

Check = Callable[[], Awaitable[str | None]]
"""Raises when unhealthy; may return what else operators want to know."""
Status = Literal["healthy", "unhealthy"]


class CheckResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """``duration`` in ms; ``timestamp`` epoch ms; ``error`` and ``detail`` are for the admin listener
    only."""

    status: Status
    duration: int
    timestamp: int
    error: str | None = None
    detail: str | None = None


class HealthStatus(msgspec.Struct, frozen=True):
    status: Status
    checks: dict[str, CheckResult]
    timestamp: int


class HealthChecker:
    """Runs all checks at once, each within ``timeout`` seconds. A check raises when it is unhealthy."""

    def __init__(self, clock: Clock, timeout: float = 2.0, fresh_ms: int = 1_000) -> None:
        self._clock = clock
        self._timeout = timeout
        self._fresh_ms = fresh_ms
        self._checks: dict[str, Check] = {}
        self._minor: set[str] = set()
        self._last: HealthStatus | None = None
        self._running: asyncio.Task[HealthStatus] | None = None

    def add(self, name: str, check: Check, *, vital: bool = True) -> None:
        """``name`` is unique: a second check of the same name would hide the first. ``vital``: whether
        requests cannot be served while it fails; ``ready`` asks no others.

        Raises:
            ValueError: there is one already.
        """
        if name in self._checks:
            raise ValueError(f"health check {name!r} exists already")
        self._checks[name] = check
        if not vital:
            self._minor.add(name)

    async def check_health(self) -> HealthStatus:
        names = list(self._checks)
        results = await asyncio.gather(*(self._run(self._checks[name]) for name in names))
        healthy = all(result.status == "healthy" for result in results)
        return HealthStatus(
            "healthy" if healthy else "unhealthy",
            dict(zip(names, results, strict=True)),
            self._clock.now_ms(),
        )

    async def report(self) -> dict[str, Any]:
        """``check_health`` as plain values, for the admin listener."""
        status: dict[str, Any] = msgspec.to_builtins(await self.check_health())
        return status

    async def ready(self) -> bool:
        """Whether everything vital is healthy. Anybody may ask, as often as they like: a fresh answer is
        given again, and simultaneous questions share one round of checks."""
        last = self._last
        if last is None or self._clock.now_ms() - last.timestamp >= self._fresh_ms:
            if self._running is None:
                self._running = asyncio.create_task(self.check_health())
                self._running.add_done_callback(self._finished)
            last = await asyncio.shield(self._running)
        return all(check.status == "healthy" or name in self._minor for name, check in last.checks.items())

    def _finished(self, task: asyncio.Task[HealthStatus]) -> None:
        self._running = None
        if not task.cancelled() and task.exception() is None:
            self._last = task.result()

    async def _run(self, check: Check) -> CheckResult:
        started = self._clock.now_ms()
        error: str | None = None
        detail: str | None = None
        try:
            async with asyncio.timeout(self._timeout):
                detail = await check()
        except TimeoutError:
            error = f"no answer within {self._timeout:g} s"
        except Exception as failure:  # noqa: BLE001 - whatever a check raises is its answer
            error = f"{type(failure).__name__}: {failure}"
        now = self._clock.now_ms()
        return CheckResult("unhealthy" if error else "healthy", now - started, now, error, detail)
