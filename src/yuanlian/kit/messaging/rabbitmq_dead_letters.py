"""The dead letters that lie in RabbitMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import structlog
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus
from yuanlian.kit.messaging.rabbitmq_channel import Link, asked
from yuanlian.kit.messaging.rabbitmq_parcels import ATTEMPTS, FAILED_AT, NUMBER, REASON, number_of
from yuanlian.kit.messaging.rabbitmq_topology import RETURNS, dead
from yuanlian.kit.messaging.repository import DeadLetter, decode

LOOK_MAX = 10_000
"""Letters of one queue that are looked at; the newest of more are seen when older ones are gone."""
PAGE = 500

_log = structlog.get_logger("bus")

_Wanted = Callable[[DeadLetter], bool]


class _Held(NamedTuple):
    """A letter that is taken until it is acknowledged or the channel is closed."""

    letter: DeadLetter
    channel: AbstractChannel
    tag: int


_AllHeld = list[_Held]  # inside the class ``list`` is a method


class RabbitMqDeadLetters:
    """Looking takes the letters and gives them back, so two who look at once see each a part.

    RabbitMQ itself buries a message that it has handed out ``RETURNS`` times without an answer.
    """

    def __init__(self, bus: RabbitMqBus, url: str) -> None:
        self._bus = bus
        self._url = url

    async def list(
        self, limit: int = 50, cursor: int | None = None, queue: str | None = None
    ) -> tuple[list[DeadLetter], int | None]:
        async with self._held(queue) as held:
            letters = [one.letter for one in held if cursor is None or one.letter.id < cursor]
        letters.sort(key=lambda letter: letter.id, reverse=True)
        page = letters[:limit]
        return page, page[-1].id if len(letters) > limit else None

    async def replay(self, ids: Sequence[int]) -> int:
        wanted = frozenset(ids)
        return await self._replay(None, lambda letter: letter.id in wanted) if wanted else 0

    async def replay_queue(self, queue: str) -> int:
        return await self._replay(queue, lambda _: True)

    async def discard(self, ids: Sequence[int]) -> int:
        wanted = frozenset(ids)
        async with self._held(None) as held:
            found = [one for one in held if one.letter.id in wanted]
            await self._forget(found)
        return len(found)

    async def _replay(self, queue: str | None, wanted: _Wanted) -> int:
        replayed = 0
        async with self._held(queue) as held:
            readable: dict[str, list[tuple[_Held, Message]]] = {}
            for one in sorted(held, key=lambda one: one.letter.id):
                if not wanted(one.letter):
                    continue
                try:
                    message = decode(one.letter.body)
                except msgspec.DecodeError:
                    _log.warning("dead letter is not a message", id=one.letter.id, queue=one.letter.queue)
                    continue
                readable.setdefault(one.letter.queue, []).append((one, message))
            for name, letters in readable.items():
                for start in range(0, len(letters), PAGE):
                    part = letters[start : start + PAGE]
                    await self._bus.requeue(name, [message for _, message in part])
                    await self._forget([one for one, _ in part])
                    replayed += len(part)
        return replayed

    async def _forget(self, held: Sequence[_Held]) -> None:
        for one in held:
            await asked(one.channel.basic_ack(one.tag))

    @asynccontextmanager
    async def _held(self, queue: str | None) -> AsyncIterator[_AllHeld]:
        """The dead letters of ``queue``, None: of all; what is not acknowledged goes back at the end."""
        await self._bus.ping()  # declares the queues: there may never have been a consumer
        link = await Link.open(self._url, "yuanlian dead letters")
        try:
            channel = await link.channel()
            held: list[_Held] = []
            for name in self._bus.bindings if queue is None else (queue,):
                if name in self._bus.bindings:
                    held += await _take(channel, name)
            yield held
        finally:
            await link.close()


async def _take(channel: AbstractChannel, queue: str) -> list[_Held]:
    held: list[_Held] = []
    while len(held) < LOOK_MAX:
        got = await asked(channel.basic_get(dead(queue)))
        if isinstance(got.delivery, Basic.GetEmpty) or got.delivery_tag is None:
            break
        letter = _letter(
            queue, got.header.properties.message_id or "", got.header.properties.headers, got.body
        )
        held.append(_Held(letter, channel, got.delivery_tag))
    return held


def _letter(queue: str, message_id: str, headers: dict[str, Any] | None, body: bytes) -> DeadLetter:
    headers = headers or {}
    if NUMBER in headers:
        return DeadLetter(
            id=int(headers[NUMBER]),
            queue=queue,
            message_id=message_id,
            reason=str(headers.get(REASON, "")),
            attempts=int(headers.get(ATTEMPTS, 0)),
            failed_at=int(headers.get(FAILED_AT, 0)),
            body=body.decode(errors="replace"),
        )
    at_ms, why = _death(headers)
    return DeadLetter(
        number_of(at_ms, message_id), queue, message_id, why, RETURNS, at_ms, body.decode(errors="replace")
    )


def _death(headers: dict[str, Any]) -> tuple[int, str]:
    """When and why RabbitMQ buried it."""
    deaths = headers.get("x-death")
    if not isinstance(deaths, list) or not deaths:
        return 0, "put there by somebody else"
    at, why = deaths[0].get("time"), deaths[0].get("reason")
    at_ms = int(at.timestamp() * 1000) if isinstance(at, datetime) else 0
    if why == "delivery_limit":
        return at_ms, f"handed out {RETURNS} times and never settled: it may have ended its consumers"
    return at_ms, str(why)
