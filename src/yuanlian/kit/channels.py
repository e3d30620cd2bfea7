"""What other processes say on named channels, over one connection that comes back by itself.

Whoever listens is told when a channel begins to be heard, each time: what was said before is lost, and
has to be made up for or declared lost. Used by the cache, the registry and the realtime hub.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from yuanlian.kit.redis import Listener, Notice, Redis, RedisAwayError

ALIVE = "yuanlian"
"""Listened to by nobody, so that there is always something to subscribe to."""
QUIET_S = 5.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

_log = structlog.get_logger("channels")


@dataclass(frozen=True, slots=True, eq=False)
class _Ear:
    on_message: Callable[[bytes], None]
    on_open: Callable[[], None]
    on_lost: Callable[[], None]


class Channels:
    """Callbacks run on the event loop and must not block. One that raises is logged: what another release,
    or anybody, publishes on one channel must not deafen the others."""

    def __init__(self, redis: Redis, *, quiet_s: float = QUIET_S) -> None:
        self._redis = redis
        self._quiet_s = quiet_s
        self._ears: dict[str, list[_Ear]] = {}
        self._asked: set[str] = set()
        self._open: set[str] = set()
        self._pause_s = FIRST_PAUSE_S
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def connected(self) -> bool:
        return ALIVE in self._open

    def listen(
        self,
        channel: str,
        on_message: Callable[[bytes], None],
        *,
        on_open: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Callable[[], None]:
        """``on_open``: from here on everything that is published is heard. ``on_lost``: no longer.
        Returns what ends it."""
        ear = _Ear(on_message, on_open, on_lost)
        self._ears.setdefault(channel, []).append(ear)
        if channel in self._open:
            on_open()
        self._changed.set()

        def end() -> None:
            ears = self._ears.get(channel, [])
            if ear in ears:
                ears.remove(ear)
            if not ears:
                self._ears.pop(channel, None)
                self._changed.set()

        return end

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="channels")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            listener = self._redis.listener()
            try:
                await self._serve(listener)
            except RedisAwayError as error:
                if self._open:
                    _log.warning("channels lost", error=repr(error.__cause__))
            except Exception:  # noqa: BLE001 - a missing permission, say: loud, and not the end of listening
                _log.exception("channels cannot be listened to")
            finally:
                self._lose()
                await listener.close()
            await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    async def _serve(self, listener: Listener) -> None:
        await self._adjust(listener)
        # Not a TaskGroup: in Python 3.11 one whose task fails as it is cancelled itself goes on running.
        tasks = [asyncio.create_task(work(listener)) for work in (self._hear, self._follow)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _follow(self, listener: Listener) -> None:
        while True:
            await self._changed.wait()
            await self._adjust(listener)

    async def _adjust(self, listener: Listener) -> None:
        """Subscribes to what is listened to, and to no more."""
        self._changed.clear()
        wanted = {ALIVE, *self._ears}
        new, old = wanted - self._asked, self._asked - wanted
        self._asked = wanted
        self._open -= old  # who listens to one of them from now on has to wait for it to be begun again
        if new:
            await listener.subscribe(sorted(new))
        if old:
            await listener.unsubscribe(sorted(old))

    async def _hear(self, listener: Listener) -> None:
        while True:
            notice = await listener.next(self._quiet_s)
            if notice is not None:
                self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        ears = tuple(self._ears.get(notice.channel, ()))
        if notice.kind == "message":
            for ear in ears:
                _told(notice.channel, ear.on_message, notice.data)
        elif notice.kind == "subscribe":
            self._open.add(notice.channel)
            self._pause_s = FIRST_PAUSE_S
            self._redis.answers_again()
            for ear in ears:
                _told(notice.channel, ear.on_open)
        elif notice.kind == "unsubscribe" and notice.channel in self._open:
            # Begun, ended and begun again, and this answers the second of the three.
            self._open.discard(notice.channel)
            for ear in ears:
                _told(notice.channel, ear.on_lost)

    def _lose(self) -> None:
        lost, self._open, self._asked = self._open, set(), set()
        for channel in lost:
            for ear in tuple(self._ears.get(channel, ())):
                _told(channel, ear.on_lost)


def _told(channel: str, callback: Callable[..., None], *what: bytes) -> None:
    try:
        callback(*what)
    except Exception:  # noqa: BLE001 - see ``Channels``
        _log.exception("a listener failed", channel=channel)
