"""Work that must not end."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from yuanlian.kit.resilience.keeping import kept, pause_after


def test_work_that_fails_is_told_each_time_and_begun_anew_until_it_returns() -> None:
    rounds: list[int] = []

    async def work() -> None:
        rounds.append(len(rounds))
        if len(rounds) < 3:
            raise RuntimeError("the disk is gone")

    with capture_logs() as logs:
        asyncio.run(kept("a loop", work))
    assert rounds == [0, 1, 2]
    assert [(entry["log_level"], entry["work"], entry["retry_in_s"]) for entry in logs] == [
        ("critical", "a loop", 0.1),
        ("critical", "a loop", 0.2),
    ]


def test_cancelling_ends_it() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(kept("a loop", work))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_cancellation_of_what_it_awaits_does_not_end_it() -> None:
    rounds: list[int] = []

    async def work() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            others = asyncio.get_running_loop().create_future()
            others.cancel()
            await others

    asyncio.run(kept("a loop", work))
    assert rounds == [0, 1]


def test_pauses_double_up_to_five_seconds() -> None:
    assert [pause_after(failures) for failures in (1, 2, 3, 7, 1000)] == [0.1, 0.2, 0.4, 5.0, 5.0]
