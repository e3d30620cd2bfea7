"""What becomes of a delivery, whatever the broker: done, tried again later, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from yuanlian.kit.context import RequestContext, serving
from yuanlian.kit.errors import AppError, DependencyAwayError
from yuanlian.kit.ids import new_id
from yuanlian.kit.messaging.bus import Handler
from yuanlian.kit.messaging.message import Message

BACKOFF_SECONDS = (1, 5, 30, 300)
"""Before the first, second, third and every later retry. CONTRACT §8."""

_log = structlog.get_logger("bus")


@dataclass(slots=True, eq=False)
class Delivery:
    """``attempt``: failed deliveries before this one. An adapter adds by what it settles it."""

    message: Message
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    pass


@dataclass(frozen=True, slots=True)
class Retry:
    after_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    reason: str


Outcome = Done | Retry | Dead
DONE = Done()


async def deliver(queue: str, handler: Handler, deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Hands the batch to ``handler`` and returns one outcome per delivery, in order.

    When the batch raises, each message is tried alone, so that only those that fail alone fail.

    Raises:
        DependencyAwayError: the handler lacks what it works with. That speaks against no message, and counts
            against none: all of them are to be handed out again when it may be back (decision record 0021).
    """
    if len(deliveries) > 1:
        try:
            with serving(RequestContext(request_id=new_id("req"))):
                await handler([_as_told(delivery) for delivery in deliveries])
        except DependencyAwayError:
            raise
        except Exception as error:  # noqa: BLE001 - found again, and judged, message by message
            _log.warning(
                "batch failed, trying each alone", queue=queue, size=len(deliveries), error=reason(error)
            )
        else:
            return [DONE] * len(deliveries)
    return [await _deliver_alone(queue, handler, delivery) for delivery in deliveries]


async def _deliver_alone(queue: str, handler: Handler, delivery: Delivery) -> Outcome:
    message = delivery.message
    try:
        with serving(RequestContext(request_id=message.requestId or new_id("req"))):
            await handler([_as_told(delivery)])
    except DependencyAwayError:
        raise
    except Exception as error:  # noqa: BLE001 - becomes the outcome
        outcome = judge(error, delivery)
        _log.warning(
            "delivery failed",
            queue=queue,
            message_id=message.id,
            type=message.type,
            request_id=message.requestId,
            attempt=delivery.attempt,
            outcome=type(outcome).__name__.lower(),
            error=outcome.reason,
            exc_info=not isinstance(error, AppError),
        )
        return outcome
    return DONE


def _as_told(delivery: Delivery) -> Message:
    """The message with the retries that are left (CONTRACT §8), so that a handler knows its last."""
    message = delivery.message
    if delivery.attempt == 0:
        return message
    return msgspec.structs.replace(message, retry=max(message.retry - delivery.attempt, 0))


def judge(error: Exception, delivery: Delivery) -> Retry | Dead:
    """A permanent error is not tried again; another is, ``message.retry`` times at most."""
    if _is_permanent(error) or delivery.attempt >= delivery.message.retry:
        return Dead(reason(error))
    return Retry(backoff_ms(delivery.attempt), reason(error))


def backoff_ms(attempt: int) -> int:
    """The wait after the failure of a delivery that had ``attempt`` failures before."""
    return BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)] * 1000


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, AppError):
        return not error.retryable
    return isinstance(error, msgspec.DecodeError)  # ``msgspec.ValidationError`` is one
