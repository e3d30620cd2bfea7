"""What goes on beside the requests."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from yuanlian.runtime.stopping import beside


async def _goes_on() -> None:
    await asyncio.Event().wait()


async def _breaks() -> None:
    raise RuntimeError("the disk is gone")


def test_a_chore_that_breaks_is_told_at_once_and_the_others_go_on() -> None:
    async def run() -> None:
        with capture_logs() as logs:
            async with beside((_breaks, _goes_on)):
                await asyncio.sleep(0.01)
                assert [(entry["log_level"], str(entry["exc_info"])) for entry in logs] == [
                    ("critical", "the disk is gone")
                ]
        assert len(logs) == 1  # one that is ended with the rest is no news

    asyncio.run(run())
