"""What a process knows of the queues that it empties and of its outbox, as metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from yuanlian.kit.messaging.bus import Bus
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.repository import OUTBOX
from yuanlian.kit.messaging.tally import Tally
from yuanlian.kit.observe.metrics import Metrics


def watch(metrics: Metrics, bus: Bus, relay: Relay) -> None:
    def of_queues(value: Callable[[Tally], float]) -> Callable[[], Mapping[str, float]]:
        return lambda: {name: value(tally) for name, tally in bus.tallies().items()}

    metrics.watch(
        "messages_done", "Messages that were handled", "queue", of_queues(lambda t: t.done), kind="counter"
    )
    metrics.watch(
        "messages_retried",
        "Deliveries that failed and are tried again",
        "queue",
        of_queues(lambda t: t.retried),
        kind="counter",
    )
    metrics.watch(
        "messages_dead",
        "Messages given up and put among the dead letters",
        "queue",
        lambda: {**of_queues(lambda t: t.dead)(), OUTBOX: relay.buried},
        kind="counter",
    )
    metrics.watch(
        "queue_stalled_seconds",
        "For how long a queue has stood still; 0 while it moves",
        "queue",
        of_queues(lambda t: t.stalled_s),
    )
    metrics.watch(
        "outbox_oldest_seconds",
        "For how long the oldest message in the outbox has waited; 0 where another process publishes",
        "",
        lambda: {"": relay.behind_s},
    )
