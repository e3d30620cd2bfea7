"""Everybody reads their own notifications, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.services.notification.world import FATHER, MOTHER, NOW, SUN, World, event, person, play

MUM = person("user_m")
DAD = person("user_f")


async def told(world: World, number: int) -> None:
    await world.attendance(*(event(f"event_{n}", recipients=(MOTHER, FATHER)) for n in range(number)))


def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await told(world, 5)
        seen: list[str] = []
        query = "?limit=2"
        while query:
            reply = await world.ask(MUM, "GET", f"/api/notifications{query}")
            seen += [item["data"]["eventId"] for item in reply.data["items"]]
            cursor = reply.data["nextCursor"]
            query = f"?limit=2&cursor={cursor}" if cursor else ""
        assert seen == ["event_4", "event_3", "event_2", "event_1", "event_0"]

    play(tmp_path, scenario)


def test_the_path_works_with_and_without_a_slash_at_its_end(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await told(world, 1)
        for path in ("/api/notifications", "/api/notifications/"):
            assert len((await world.ask(MUM, "GET", path)).data["items"]) == 1

    play(tmp_path, scenario)


def test_reading_is_remembered_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await told(world, 2)
        [newest, _] = await world.inbox(MUM)
        first = await world.ask(MUM, "POST", f"/api/notifications/{newest['id']}/read")
        assert (first.status, first.data["readAt"]) == (200, NOW)
        world.clock.advance(1000)
        again = await world.ask(MUM, "POST", f"/api/notifications/{newest['id']}/read")
        assert (again.status, again.data) == (200, first.data)
        assert [n["data"]["eventId"] for n in await world.inbox(MUM, "?unread=true")] == ["event_0"]
        assert len(await world.inbox(DAD, "?unread=true")) == 2

    play(tmp_path, scenario)


def test_somebody_elses_notification_does_not_exist_for_me(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await told(world, 1)
        [mine] = await world.inbox(MUM)
        for path in (f"{mine['id']}/read", "notification_0/read"):
            assert (await world.ask(DAD, "POST", f"/api/notifications/{path}")).status == 404
        assert (await world.ask(DAD, "GET", f"/api/notifications/{mine['id']}/receipts")).status == 404
        assert (await world.inbox(MUM))[0]["readAt"] is None

    play(tmp_path, scenario)


def test_the_recipient_sees_the_receipts_of_their_own(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await told(world, 1)
        [mine] = await world.inbox(MUM)
        reply = await world.ask(MUM, "GET", f"/api/notifications/{mine['id']}/receipts")
        found = {
            (r["notificationId"], r["recipient"], r["channel"], r["status"]) for r in reply.data["items"]
        }
        assert found == {
            (mine["id"], "李妈妈", "inapp", "delivered"),
            (mine["id"], "李妈妈", "email", "queued"),
        }

        assert len({r["id"] for r in reply.data["items"]}) == 2
        assert all(r["id"].startswith("receipt_") for r in reply.data["items"])

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("query", "field"),
    [("?limit=0", "limit"), ("?limit=201", "limit"), ("?cursor=x", "cursor"), ("?unread=maybe", "unread")],
)
def test_a_wrong_question_says_which_part_is_wrong(tmp_path: Path, query: str, field: str) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(MUM, "GET", f"/api/notifications{query}")
        assert reply.status == 400
        assert list(reply.problems) == [field]

    play(tmp_path, scenario)


def test_without_the_permission_there_is_no_inbox(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        nobody = person("user_m", SUN, "student.read")
        assert (await world.ask(nobody, "GET", "/api/notifications")).status == 403
        assert (await world.ask(nobody, "POST", "/api/notifications/notification_1/read")).status == 403

    play(tmp_path, scenario)
