"""One timer for many time-outs, with the meaning of ``asyncio.timeout``."""

from __future__ import annotations

import asyncio

import pytest
from tests.support import virtual_time

from yuanlian.kit.resilience.watchdog import Watch, Watchdog


def _watchdog() -> Watchdog:
    return Watchdog(tick_s=0.005, clock=asyncio.get_running_loop().time)


def test_a_block_that_takes_too_long_ends_with_a_timeout() -> None:
    async def scenario() -> None:
        watchdog = _watchdog()
        with pytest.raises(TimeoutError), watchdog.watch(0.01):
            await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0.02)

    virtual_time.run(scenario())


def test_a_block_in_time_is_left_alone_and_so_is_what_follows() -> None:
    async def scenario() -> None:
        watchdog = _watchdog()
        with watchdog.watch(0.01) as watch:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert not watch.expired

    virtual_time.run(scenario())


def test_only_those_whose_time_is_up_end() -> None:
    async def scenario() -> None:
        watchdog = _watchdog()

        async def work(seconds: float) -> str:
            with watchdog.watch(seconds):
                await asyncio.sleep(0.1)
                return "done"

        results = await asyncio.gather(work(0.01), work(60), work(0.02), return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["TimeoutError", "str", "TimeoutError"]

    virtual_time.run(scenario())


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def scenario() -> None:
        watchdog = _watchdog()

        async def work() -> None:
            with watchdog.watch(60):
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual_time.run(scenario())


def test_the_blocks_own_error_passes() -> None:
    async def scenario() -> None:
        with pytest.raises(ValueError, match="own"), _watchdog().watch(60):
            raise ValueError("own")

    virtual_time.run(scenario())


def test_pauses_do_not_count_even_when_they_overlap() -> None:
    async def scenario() -> None:
        watchdog = _watchdog()

        async def wait(watch: Watch, seconds: float) -> None:
            with watch.paused():
                await asyncio.sleep(seconds)

        async def work(seconds: float) -> str:
            with watchdog.watch(0.05) as watch:
                await asyncio.gather(wait(watch, 0.1), wait(watch, 0.2))
                await asyncio.sleep(seconds)
                return "done"

        assert await work(0) == "done"
        with pytest.raises(TimeoutError):
            await work(60)

    virtual_time.run(scenario())


def test_time_can_begin_anew() -> None:
    async def scenario() -> None:
        watchdog = _watchdog()

        async def work(seconds: float) -> str:
            with watchdog.watch(0.1) as watch:
                for _ in range(4):
                    await asyncio.sleep(0.05)
                    watch.restart()
                with watch.paused():
                    watch.restart()
                    await asyncio.sleep(0.15)
                await asyncio.sleep(seconds)
                return "done"

        assert await work(0) == "done"
        with pytest.raises(TimeoutError):
            await work(60)

    virtual_time.run(scenario())
