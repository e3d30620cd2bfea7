"""Realtime across processes: Redis numbers each tenant's events, keeps the last, and tells every process
that follows the tenant. Each of those mirrors the tenant's history, so that resuming is a matter of
memory, whichever process a client comes back to.

The keys and the channel of one tenant are one slot of a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import structlog

from yuanlian.kit.channels import Channels
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.realtime.closings import Closing, Closings
from yuanlian.kit.realtime.frames import text_frame
from yuanlian.kit.realtime.hub import Encode, Event, Subscriber
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.redis import Redis, RedisAwayError
from yuanlian.kit.redis_scripts import Script, Word

KEPT_EVENTS = 500
KEPT_S = 3600
READY_S = 2.0
RETRY_S = 0.5
NOWHERE = "0-0"
"""A cursor from which nothing can be resumed."""

_log = structlog.get_logger("realtime")

# KEYS: meta (line, epoch, sequence), log (a stream whose ids are the sequence). ARGV[1]: the epoch that
# begins when there is none yet, or when the one there is belongs to another line of data: a server has a new
# replication id each time it becomes master, and so after each start (also when its first replica comes and
# an hour after its last one has gone: then the new epoch is for nothing, and harmless).
_LINE = """
local line = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or 'unnamed'
"""
_EPOCH = """
if redis.call('HGET', KEYS[1], 'line') ~= line then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'line', line, 'epoch', ARGV[1])
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
"""
# ARGV: an epoch, channel, how many events to keep, for how many seconds; then the events.
_PUBLISH = Script(
    before=_LINE,
    source=_EPOCH
    + """
for i = 5, #ARGV do
  local sequence = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], sequence .. '-0', 'event', ARGV[i])
  redis.call('PUBLISH', ARGV[2], epoch .. '-' .. sequence .. ' ' .. ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
""",
)
# ARGV: an epoch, seconds to keep it; then the epoch and sequence to read after: everything when the epoch is
# another, and without them no events.
_READ = Script(
    before=_LINE,
    source=_EPOCH
    + """
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
local events = {}
if ARGV[3] then
  local after = ARGV[3] == epoch and ARGV[4] or '0'
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. after .. '-0', '+')) do
    events[#events + 1] = {entry[1], entry[2][2]}
  end
end
return {epoch, redis.call('HGET', KEYS[1], 'sequence') or '0', events}
""",
)


class _Wire(msgspec.Struct, array_like=True):
    """An event between processes, as it is read."""

    channels: tuple[str, ...]
    message: msgspec.Raw


_encode_wire = msgspec.json.Encoder().encode
_decode_wire = msgspec.json.Decoder(_Wire).decode


class RedisHub:
    """Implements ``Hub`` and ``Realtime``. While Redis is away nothing is published (``RedisAwayError``:
    queues wait with what they have) and connections stay; when it is back they get what they missed, in
    order, or are told to read anew.

    An epoch belongs to one server for as long as it is master: after a failover, a restart from a snapshot or
    a move of the tenant's slot a new one begins, with whatever is asked first. So two events do not have one
    cursor when the last numbers a failed master gave were not replicated; followers read anew, and cursors
    of before do not resume. An event that a failed master has acknowledged and not replicated is lost only
    to whom it had not told; reading anew shows what it was about."""

    def __init__(self, redis: Redis, channels: Channels, encode: Encode = text_frame) -> None:
        self._redis = redis
        self._channels = channels
        self._local = MemoryHub(encode, on_dropped=self._unfollow)
        self._mirrors: dict[str, _Mirror] = {}
        self._closings = Closings(redis, channels, self._close_here)

    async def start(self) -> None:
        await self._closings.start()

    async def stop(self) -> None:
        for tenant_id in tuple(self._mirrors):
            self._unfollow(tenant_id)
        await self._closings.stop()

    # --- Realtime -----------------------------------------------------------------------------

    async def publish(self, events: Sequence[Event]) -> None:
        by_tenant: dict[str, list[bytes]] = {}
        for event in events:
            wire = _encode_wire((event.channels, event.message()))
            by_tenant.setdefault(event.tenant_id, []).append(wire)
        calls: list[tuple[list[str], list[Word]]] = [
            (_keys(tenant), [secrets.token_hex(8), _channel(tenant), KEPT_EVENTS, KEPT_S, *wires])
            for tenant, wires in by_tenant.items()
        ]
        for answer in await self._redis.run_many(_PUBLISH, calls):
            if isinstance(answer, RedisAwayError):
                raise answer
            if isinstance(answer, Exception):
                # This tenant's keys are at fault, say; others' events must not wait for it.
                _log.error("Redis refuses a live event", error=str(answer))
                raise ServiceUnavailableError from answer

    async def close_user(self, tenant_id: str, user_id: str, code: int) -> None:
        self._closings.close(Closing(tenant_id, user_id, code))

    async def cursor(self, tenant_id: str) -> str:
        try:
            epoch, sequence, _ = await self._redis.run(
                _READ, _keys(tenant_id), [secrets.token_hex(8), KEPT_S]
            )
        except RedisAwayError:
            return NOWHERE
        return f"{epoch.decode()}-{int(sequence)}"

    # --- Hub ----------------------------------------------------------------------------------

    async def ready(self, tenant_id: str) -> None:
        mirror = self._mirrors.get(tenant_id)
        if mirror is None:
            mirror = self._mirrors[tenant_id] = _Mirror(tenant_id, self._redis, self._local)
            mirror.follow(self._channels)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await mirror.complete.wait()

    def attach(self, subscriber: Subscriber, channels: Iterable[str]) -> str:
        return self._local.attach(subscriber, channels)

    def subscribe(self, subscriber: Subscriber, channel: str) -> str:
        return self._local.subscribe(subscriber, channel)

    def unsubscribe(self, subscriber: Subscriber, channel: str) -> None:
        self._local.unsubscribe(subscriber, channel)

    def detach(self, subscriber: Subscriber) -> None:
        self._local.detach(subscriber)

    def replay(self, subscriber: Subscriber, cursor: str) -> bool:
        mirror = self._mirrors.get(subscriber.tenant_id)
        return mirror is not None and mirror.complete.is_set() and self._local.replay(subscriber, cursor)

    # --- between processes --------------------------------------------------------------------

    def _unfollow(self, tenant_id: str) -> None:
        mirror = self._mirrors.pop(tenant_id, None)
        if mirror is not None:
            mirror.leave()

    def _close_here(self, closing: Closing) -> None:
        for subscriber in self._local.subscribers_of(closing.tenant_id):
            if subscriber.user_id == closing.user_id:
                subscriber.close(closing.code)


class _Mirror:
    """One tenant's history as Redis has it, kept in the local hub. ``complete`` is set while nothing is
    missing."""

    def __init__(self, tenant_id: str, redis: Redis, local: MemoryHub) -> None:
        self._tenant_id = tenant_id
        self._redis = redis
        self._local = local
        # No more than the log has: what is older is found there.
        self._early: deque[bytes] = deque(maxlen=KEPT_EVENTS)
        self._task: asyncio.Task[None] | None = None
        self._end: Callable[[], None] = lambda: None
        self.complete = asyncio.Event()

    def follow(self, channels: Channels) -> None:
        self._end = channels.listen(
            _channel(self._tenant_id), self._heard, on_open=self._catch_up, on_lost=self._lost
        )

    def leave(self) -> None:
        self._end()
        if self._task is not None:
            self._task.cancel()

    def _lost(self) -> None:
        self.complete.clear()

    def _heard(self, message: bytes) -> None:
        if not self.complete.is_set():
            self._early.append(message)
            return
        if not self._take(message):
            self._catch_up()  # finds this event too

    def _take(self, message: bytes) -> bool:
        """Whether the event follows what is known, or is known."""
        cursor, _, wire = message.partition(b" ")
        epoch, _, number = cursor.decode().partition("-")
        known_epoch, known = self._local.position(self._tenant_id)
        if epoch != known_epoch or int(number) > known + 1:
            return False
        if int(number) == known + 1:
            self._local.deliver(self._event(wire))
        return True

    def _event(self, wire: bytes) -> Event:
        try:
            event = _decode_wire(wire)
            message = _message(event.message)
        except msgspec.MsgspecError:
            # Of another release, say. It has its number, and what follows it must not wait for it.
            _log.exception("a live event is not understood, nobody is told", tenant_id=self._tenant_id)
            return Event(self._tenant_id, (), {})
        return Event(self._tenant_id, event.channels, message)

    def _catch_up(self) -> None:
        self.complete.clear()  # what is heard meanwhile comes after what is found
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        """What happened until we began to listen, from Redis; then what was heard meanwhile."""
        while True:
            known_epoch, known = self._local.position(self._tenant_id)
            try:
                answer = await self._redis.run(
                    _READ, _keys(self._tenant_id), [secrets.token_hex(8), KEPT_S, known_epoch, known]
                )
                break
            except RedisAwayError:
                await asyncio.sleep(RETRY_S)
        epoch, sequence, events = answer[0].decode(), int(answer[1]), answer[2]
        first = _number(events[0]) if events else sequence + 1
        if epoch == known_epoch and first == known + 1:
            for _, wire in events:
                self._local.deliver(self._event(wire))
        else:
            self._begin_anew(epoch, first - 1, events)
        early, self._early = self._early, deque(maxlen=KEPT_EVENTS)
        self.complete.set()
        present = self._local.position(self._tenant_id)[0].encode()
        for message in early:
            if message.startswith(present):  # else of an epoch that has ended since
                self._heard(message)

    def _begin_anew(self, epoch: str, floor: int, events: Sequence[Any]) -> None:
        """From the oldest that Redis still has; who is connected already has to read anew, because what
        lies between is lost."""
        subscribers = self._local.subscribers_of(self._tenant_id)
        self._local.restart(self._tenant_id, epoch, floor)
        for subscriber in subscribers:
            subscriber.resync()
        for _, wire in events:
            self._local.remember(self._event(wire))


def _message(raw: msgspec.Raw) -> dict[str, Any]:
    return msgspec.json.decode(raw, type=dict[str, Any])


def _number(entry: Sequence[bytes]) -> int:
    return int(entry[0].partition(b"-")[0])


def _channel(tenant_id: str) -> str:
    return f"realtime:{{tenant/{tenant_id}}}"


def _keys(tenant_id: str) -> list[str]:
    return [f"{_channel(tenant_id)}:meta", f"{_channel(tenant_id)}:log"]
