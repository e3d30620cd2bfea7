"""A feed tells everything to a newcomer and every change to everybody else."""

from __future__ import annotations

import asyncio

from yuanlian.kit.feed import Changes, Feed


def _feed(kept: int = 100) -> Feed[str]:
    async def everything() -> list[str]:
        return ["all"]

    return Feed(everything, kept)


def test_a_newcomer_is_told_everything_then_only_what_is_new() -> None:
    async def scenario() -> None:
        feed = _feed()
        feed.extend(["a", "b"])
        first = await feed.after("", 5)
        assert (first.complete, first.items) == (True, ("all",))
        feed.extend(["c", "d"])
        assert await feed.after(first.cursor, 5) == Changes(
            (await feed.after("", 0)).cursor, complete=False, items=("c", "d")
        )

    asyncio.run(scenario())


def test_one_who_waits_is_told_as_soon_as_there_is_news() -> None:
    async def scenario() -> None:
        feed = _feed()
        cursor = (await feed.after("", 0)).cursor
        waiting = [asyncio.create_task(feed.after(cursor, 60)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        feed.extend(["news"])
        for answer in await asyncio.wait_for(asyncio.gather(*waiting), 5):
            assert answer.items == ("news",)

    asyncio.run(scenario())


def test_one_who_waits_in_vain_keeps_the_cursor() -> None:
    async def scenario() -> None:
        feed = _feed()
        cursor = (await feed.after("", 0)).cursor
        assert await feed.after(cursor, 0.01) == Changes(cursor, complete=False)

    asyncio.run(scenario())


def test_one_who_was_away_too_long_is_told_everything() -> None:
    async def scenario() -> None:
        feed = _feed(kept=2)
        cursor = (await feed.after("", 0)).cursor
        feed.extend(["a", "b"])
        assert (await feed.after(cursor, 0)).items == ("a", "b")
        feed.extend(["c"])
        answer = await feed.after(cursor, 0)
        assert (answer.complete, answer.items) == (True, ("all",))

    asyncio.run(scenario())


def test_a_cursor_of_another_life_or_of_nobody_is_a_newcomers() -> None:
    async def scenario() -> None:
        old = (await _feed().after("", 0)).cursor
        feed = _feed()
        for cursor in (old, "-", "x-1", f"{feed._life}-", f"{feed._life}--1", f"{feed._life}-٣"):
            assert (await feed.after(cursor, 0)).complete, cursor

    asyncio.run(scenario())


def test_what_is_appended_while_everything_is_read_is_told_again() -> None:
    async def scenario() -> None:
        feed: Feed[str]

        async def everything() -> list[str]:
            feed.extend(["meanwhile"])
            return ["all"]

        feed = Feed(everything)
        first = await feed.after("", 0)
        assert (await feed.after(first.cursor, 0)).items == ("meanwhile",)

    asyncio.run(scenario())
