"""What goes on beside the requests."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from yuanlian.runtime.stopping import beside


async def _goes_on() -> None:
    await asyncio.Event().wait()


def test_a_chore_that_fails_is_told_at_once_and_begun_anew_and_the_others_go_on() -> None:
    begun: list[str] = []
    again = asyncio.Event()

    async def breaks() -> None:
        begun.append("breaks")
        if len(begun) < 3:
            raise RuntimeError("the disk is gone")
        again.set()
        await _goes_on()

    async def goes_on() -> None:
        begun.append("goes on")
        await _goes_on()

    async def run() -> None:
        with capture_logs() as logs:
            async with beside((breaks, goes_on)):
                await again.wait()
        assert begun == ["breaks", "goes on", "breaks"]
        (entry,) = logs  # one that is ended with the rest is no news
        assert (entry["log_level"], entry["work"]) == ("critical", f"{__name__}.{breaks.__qualname__}")

    asyncio.run(run())
