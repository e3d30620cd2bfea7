"""What becomes of a delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from yuanlian.kit.context import current
from yuanlian.kit.errors import ConflictError, ServiceUnavailableError, ValidationError
from yuanlian.kit.messaging.delivery import DONE, Dead, Delivery, Retry, deliver, judge
from yuanlian.kit.messaging.message import Message


def delivery(tag: int = 1, *, attempt: int = 0, retry: int = 3) -> Delivery:
    return Delivery(Message(f"msg_{tag}", "t", 0, "tenant_a", None, retry, requestId=f"req_{tag}"), attempt)


@pytest.mark.parametrize(
    "error", [ConflictError(), ValidationError(), msgspec.ValidationError("x"), msgspec.DecodeError("x")]
)
def test_a_permanent_error_is_dead_whatever_the_budget(error: Exception) -> None:
    assert isinstance(judge(error, delivery(retry=100)), Dead)


@pytest.mark.parametrize("error", [ServiceUnavailableError(), OSError("down"), KeyError("x"), TimeoutError()])
def test_any_other_error_is_retried(error: Exception) -> None:
    assert isinstance(judge(error, delivery()), Retry)


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 1), (1, 5), (2, 30), (3, 300), (4, 300), (40, 300)])
def test_each_retry_waits_its_step(attempt: int, seconds: int) -> None:
    outcome = judge(OSError("down"), delivery(attempt=attempt, retry=100))
    assert outcome == Retry(seconds * 1000, "OSError: down")


def test_a_message_is_retried_as_often_as_it_allows_and_no_more() -> None:
    assert isinstance(judge(OSError("down"), delivery(attempt=1, retry=2)), Retry)
    assert judge(OSError("down"), delivery(attempt=2, retry=2)) == Dead("OSError: down")
    assert isinstance(judge(OSError("down"), delivery(attempt=0, retry=0)), Dead)


def test_a_batch_that_succeeds_is_one_call() -> None:
    calls: list[int] = []

    async def handler(messages: Sequence[Message]) -> None:
        calls.append(len(messages))

    outcomes = asyncio.run(deliver("q", handler, [delivery(n) for n in range(5)]))
    assert calls == [5]
    assert outcomes == [DONE] * 5


def test_when_a_batch_fails_each_message_is_tried_alone_and_judged_alone() -> None:
    alone: list[str] = []

    async def handler(messages: Sequence[Message]) -> None:
        for message in messages:
            if len(messages) == 1:
                alone.append(message.id)
            if message.id == "msg_1":
                raise ConflictError
            if message.id == "msg_2":
                raise OSError("down")

    outcomes = asyncio.run(deliver("q", handler, [delivery(n) for n in range(4)]))
    assert alone == ["msg_0", "msg_1", "msg_2", "msg_3"]
    assert outcomes == [DONE, Dead("ConflictError: Conflict"), Retry(1000, "OSError: down"), DONE]


def test_a_message_alone_is_served_under_its_request_and_a_batch_under_one_of_its_own() -> None:
    served: list[str] = []

    async def handler(messages: Sequence[Message]) -> None:
        served.extend({current().request_id, current().request_id})

    asyncio.run(deliver("q", handler, [delivery(7)]))
    asyncio.run(deliver("q", handler, [delivery(1), delivery(2)]))
    assert served[0] == "req_7"
    assert len(served) == 2
    assert served[1] not in {"req_1", "req_2"}


def test_cancelling_is_not_a_failed_delivery() -> None:
    async def handler(messages: Sequence[Message]) -> None:
        raise asyncio.CancelledError

    async def scenario() -> None:
        with pytest.raises(asyncio.CancelledError):
            await deliver("q", handler, [delivery()])

    asyncio.run(scenario())
