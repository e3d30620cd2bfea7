from __future__ import annotations

import asyncio

import pytest

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.observe.health import HealthChecker


async def healthy() -> None:
    pass


async def broken() -> None:
    raise ConnectionError("database is gone")


async def hanging() -> None:
    await asyncio.Event().wait()


def test_every_check_is_reported_and_one_failure_is_enough() -> None:
    checker = HealthChecker(ManualClock(1_000), timeout=0.05)
    checker.add("bus", healthy)
    checker.add("database", broken)
    checker.add("cache", hanging)
    assert asyncio.run(checker.report()) == {
        "status": "unhealthy",
        "timestamp": 1_000,
        "checks": {
            "bus": {"status": "healthy", "duration": 0, "timestamp": 1_000},
            "database": {
                "status": "unhealthy",
                "duration": 0,
                "timestamp": 1_000,
                "error": "ConnectionError: database is gone",
            },
            "cache": {
                "status": "unhealthy",
                "duration": 0,
                "timestamp": 1_000,
                "error": "no answer within 0.05 s",
            },
        },
    }


def test_all_healthy_is_healthy() -> None:
    checker = HealthChecker(ManualClock(0))
    checker.add("bus", healthy)
    assert asyncio.run(checker.check_health()).status == "healthy"
    assert asyncio.run(checker.ready())


def test_checks_run_side_by_side() -> None:
    met = 0

    async def meets() -> None:
        nonlocal met
        met += 1
        while met < 2:
            await asyncio.sleep(0)

    checker = HealthChecker(ManualClock(0))
    checker.add("one", meets)
    checker.add("two", meets)
    assert asyncio.run(checker.check_health()).status == "healthy"


def test_asking_for_readiness_often_does_not_check_often() -> None:
    asked = 0
    clock = ManualClock(0)

    async def count() -> None:
        nonlocal asked
        asked += 1

    async def scenario() -> None:
        checker = HealthChecker(clock, fresh_ms=1_000)
        checker.add("count", count)
        await asyncio.gather(*(checker.ready() for _ in range(100)))
        await checker.ready()
        assert asked == 1
        clock.advance(1_000)
        assert await checker.ready()
        assert asked == 2

    asyncio.run(scenario())


def test_a_caller_who_leaves_does_not_spoil_the_answer_for_others() -> None:
    async def scenario() -> None:
        checker = HealthChecker(ManualClock(0))
        checker.add("slow", lambda: asyncio.sleep(0.01))
        leaving = asyncio.create_task(checker.ready())
        staying = asyncio.create_task(checker.ready())
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying

    asyncio.run(scenario())


def test_two_checks_of_one_name_are_refused() -> None:
    checker = HealthChecker(ManualClock(0))
    checker.add("bus", healthy)
    with pytest.raises(ValueError, match="bus"):
        checker.add("bus", healthy)
