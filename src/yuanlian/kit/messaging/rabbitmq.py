"""The bus of the distributed platform."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

import structlog

from yuanlian.kit.clock import Clock
from yuanlian.kit.messaging import rabbitmq_topology as topology
from yuanlian.kit.messaging.bus import BusError, BusUnavailableError, Subscription
from yuanlian.kit.messaging.delivery import reason
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq_channel import SET_UP_S, Link, address
from yuanlian.kit.messaging.rabbitmq_needs import refuse_lacking
from yuanlian.kit.messaging.rabbitmq_parcels import addressed
from yuanlian.kit.messaging.rabbitmq_publisher import CONFIRM_S, Publisher
from yuanlian.kit.messaging.rabbitmq_queue import RabbitMqQueue
from yuanlian.kit.messaging.tally import Tally
from yuanlian.kit.messaging.waiting import Signal
from yuanlian.kit.resilience.keeping import is_to_end, pause_after

CHECK_S = 30.0

_NO_BINDINGS: topology.Bindings = {}

_log = structlog.get_logger("bus")


class RabbitMqBus:
    """A ``Bus`` for many processes.

    ``url``: ``amqp[s]://user:password@host:port/vhost``. ``bindings``: every queue of the installation
    and its types, so that a message finds also those queues whose consumers have not started yet; those
    subscribed here are added. ``name``: what the broker calls the connections. ``second_ms``: how long
    a second of backoff is (a test's is shorter). ``confirm_s``: after so long without the broker's
    confirmation a ``publish`` has failed. ``check_s``: how often consumers make sure that the broker
    still knows them.

    Two connections, one to publish and one to consume, because the broker holds up a connection on which
    too much is published. Publishing connects when needed and raises ``BusUnavailableError`` while the
    broker is away; consuming comes back by itself.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        bindings: topology.Bindings = _NO_BINDINGS,
        name: str = "yuanlian",
        second_ms: int = 1000,
        confirm_s: float = CONFIRM_S,
        check_s: float = CHECK_S,
    ) -> None:
        self.address = address(url)
        self._url = url
        self._clock = clock
        self._name = name
        self._second_ms = second_ms
        self._check_s = check_s
        self._publisher = Publisher(url, f"{name} publishes", second_ms, confirm_s=confirm_s)
        self._publisher.bindings.update({queue: tuple(types) for queue, types in bindings.items()})
        self._wanted = {type_ for types in bindings.values() for type_ in types}
        self._queues: dict[str, RabbitMqQueue] = {}
        self._link: Link | None = None
        self._stopped = Signal()
        self._tasks: list[asyncio.Task[None]] = []
        self._keeper: asyncio.Task[None] | None = None

    def subscribe(self, subscription: Subscription) -> None:
        queue = subscription.queue
        if queue in self._queues:
            raise ValueError(f"queue {queue} has its handler already")
        self._queues[queue] = RabbitMqQueue(subscription, self._publisher, self._clock)
        known = self._publisher.bindings.get(queue, ())
        self._publisher.bindings[queue] = tuple(dict.fromkeys((*known, *subscription.types)))
        self._wanted.update(subscription.types)

    @property
    def bindings(self) -> topology.Bindings:
        return self._publisher.bindings

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when RabbitMQ has confirmed that the messages are in a majority of the members of
        every bound queue, on disk.

        Raises:
            MessageRefusedError: one can never be sent; none was.
            BusUnavailableError, BusError: not all were confirmed.
        """
        await self._publisher.publish(
            [addressed(topology.TOPIC, m.type, m, wanted=m.type in self._wanted) for m in messages]
        )

    async def requeue(self, queue: str, messages: Sequence[Message]) -> None:
        """Puts messages into this queue only, as if for the first time; returns when durable."""
        await self._publisher.publish([addressed(topology.DIRECT, queue, m, wanted=True) for m in messages])

    def tallies(self) -> Mapping[str, Tally]:
        return {name: queue.tally for name, queue in self._queues.items()}

    async def start(self) -> None:
        """Raises:
        BusError: there is no broker, it refuses us, or a queue is there with other arguments.
        """
        self._stopped.clear()
        self._link = await self._consume()
        for queue in self._queues.values():
            queue.start()
        self._tasks = [
            asyncio.create_task(queue.run(), name=f"queue {name}") for name, queue in self._queues.items()
        ]
        self._keeper = asyncio.create_task(self._keep_consuming(), name="rabbitmq connection")

    async def stop(self) -> None:
        """Finishes the batches at hand; what else had been handed out goes back to its queue. Cut short, it
        gives back those batches, too."""
        self._stopped.set()
        try:
            await asyncio.gather(*(queue.detach() for queue in self._queues.values()))
            await asyncio.gather(*self._tasks)
            await self._let_go()
            if self._keeper is not None:
                await self._keeper
                await self._let_go()  # it may have connected meanwhile
            await self._publisher.close()
        except asyncio.CancelledError:
            if self._keeper is not None:
                self._keeper.cancel()
            if self._link is not None:
                self._link.drop()
            self._publisher.drop()
            raise
        finally:
            self._tasks, self._keeper = [], None

    async def ping(self) -> None:
        """Raises:
        BusError: the broker cannot be used now, or hands out nothing here.
        """
        await self._publisher.ping()
        idle = [name for name, queue in self._queues.items() if not queue.consumes]
        if idle and self._keeper is not None:
            raise BusUnavailableError(f"nothing is consumed of {', '.join(idle)}")

    async def check(self, let_in: Callable[[], None] = lambda: None) -> str:
        """The broker's version and address, when the user may do all that is done here. Declares nothing.
        ``let_in`` is called when the broker has taken the password.

        Raises:
            BusError: he may not, or the broker cannot be used.
        """
        link = await Link.open(self._url, f"{self._name} asks")
        let_in()
        try:
            await refuse_lacking(link, self.bindings, self._second_ms)
        except BaseException:
            link.drop()
            raise
        await link.close()
        return f"{link.version} at {self.address}"

    async def _consume(self) -> Link:
        link = await Link.open(self._url, f"{self._name} consumes")
        try:
            async with asyncio.timeout(SET_UP_S):
                await topology.declare(link, self.bindings, self._second_ms)
                for queue in self._queues.values():
                    await queue.attach(link)
        except TimeoutError:
            link.drop()
            raise BusUnavailableError("RabbitMQ was too slow to set up") from None
        except BaseException:
            link.drop()
            raise
        return link

    async def _let_go(self) -> None:
        if self._link is not None:
            await self._link.close()

    async def _keep_consuming(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                if self._link is not None and (not await self._is_lost(self._link) or self._stopped.is_set()):
                    continue
                for queue in self._queues.values():
                    queue.tally.stall()
                self._link = await self._consume()
            except (Exception, asyncio.CancelledError) as error:  # whatever it was, it has to come back
                if is_to_end(error):
                    raise
                failures += 1
                pause = pause_after(failures)
                say = _log.warning if isinstance(error, BusError) else _log.exception
                say("nothing is consumed", error=reason(error), retry_in_s=pause)
                await self._stopped.within(pause)
            else:
                failures = 0
                _log.info("consuming again", broker=self.address)

    async def _is_lost(self, link: Link) -> bool:
        """False after ``check_s`` with consumers that the broker knows.

        It tells them when their queue is deleted, but not always when it is made anew at once.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._check_s):
                await link.lost.wait()
                return True
        try:
            async with asyncio.timeout(SET_UP_S):
                consumed = await topology.consumed(link, self._queues)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this connection, another may do
            _log.warning("consumers not found", error=reason(error))
            consumed = False
        if not consumed:
            link.drop()
        return not consumed
