"""Works meet in groups, some groups at a time, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from yuanlian.kit.database.group_commit import GroupCommit
from yuanlian.kit.database.work import Work


class Store:
    """Takes a moment for each group."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self, works: Sequence[Work]) -> None:
        self.groups.append(len(works))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        for work in works:
            work.result = "stored"


def submit(groups: GroupCommit) -> asyncio.Future[Any]:
    work = Work(lambda session: None, asyncio.get_running_loop().create_future())
    groups.submit(work)
    return work.future


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("callers", [1, 2, 7])
def test_whoever_comes_as_a_worker_leaves_is_served(parallel: int, callers: int) -> None:
    """A worker that had nothing left was once counted on for a moment longer, and the next work waited
    for ever."""

    async def caller(groups: GroupCommit) -> None:
        for _ in range(50):
            assert await submit(groups) == "stored"

    async def scenario() -> None:
        groups = GroupCommit(Store(), parallel, 64)
        await asyncio.gather(*(caller(groups) for _ in range(callers)))
        await groups.finish()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_groups_have_their_limits() -> None:
    async def scenario() -> None:
        store = Store()
        groups = GroupCommit(store, 3, 10)
        assert await asyncio.gather(*(submit(groups) for _ in range(95))) == ["stored"] * 95
        assert store.groups == [*[10] * 9, 5]
        assert store.most_at_once == 3

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_an_end_waits_for_what_was_submitted() -> None:
    async def scenario() -> None:
        groups = GroupCommit(Store(), 2, 4)
        futures = [submit(groups) for _ in range(30)]
        await groups.finish()
        assert all(future.done() for future in futures)

    asyncio.run(asyncio.wait_for(scenario(), 10))
