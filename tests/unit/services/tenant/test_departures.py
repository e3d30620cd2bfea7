"""Who is no member of a kindergarten any more is gone from its roster too."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.services.tenant.roster_world import NOW, World, head, mother, run, teacher

from yuanlian.contracts.auth import MEMBER_REMOVED, MemberRemoved
from yuanlian.contracts.tenant import CHANNELS_PATH, RECIPIENTS_PATH
from yuanlian.kit.messaging import tables
from yuanlian.kit.messaging.message import Message
from yuanlian.services.tenant.roster.handlers import subscriptions
from yuanlian.services.tenant.roster.models import Guardian, Guardianship, Staff, StaffClass

assert tables  # the inbox


def removed(user_id: str, tenant: str = "a", *, id_: str = "msg_1", at: int = NOW) -> Message:
    return Message(id_, MEMBER_REMOVED, at, tenant, {"userId": user_id})


async def deliver(world: World, *messages: Message) -> None:
    [subscription] = subscriptions(world.database, world.hub)
    assert (subscription.queue, subscription.types) == ("roster.queue", (MEMBER_REMOVED,))
    await subscription.handler(messages)


def test_what_is_published_is_what_is_read() -> None:
    assert MemberRemoved.__struct_fields__ == ("userId",)


def test_a_removed_teacher_hears_and_sees_nothing_more_and_only_there(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        here, elsewhere = world.connect(teacher("a")), world.connect(teacher("b"))
        await deliver(world, removed("user_teacher"))
        assert await world.count(Staff, user_id="user_teacher", tenant_id="a") == 0
        assert await world.count(StaffClass, user_id="user_teacher", tenant_id="a") == 0
        assert await world.count(Staff, user_id="user_teacher", tenant_id="b") == 1
        assert await world.count(StaffClass, tenant_id="b") == 1
        assert (here.closed, elsewhere.closed) == ([4403], [])
        whole = await world.as_(head("a"))("GET", f"{RECIPIENTS_PATH}?audience=staff")
        assert [member["name"] for member in whole.data["members"]] == ["head"]
        # With a token that is still valid, and after being added again: no class comes back by itself.
        assert (await world.as_(teacher("a"))("GET", "/students")).ids == []
        assert (await world.as_(teacher("a"))("GET", CHANNELS_PATH)).data["channels"] == []

    run(tmp_path, scenario)


def test_a_removed_guardian_stays_on_the_roster_without_an_account(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        socket = world.connect(mother("a"))
        await deliver(world, removed("user_mother"))
        assert (await world.as_(mother("a"))("GET", "/students")).ids == []
        assert (await world.as_(mother("b"))("GET", "/students")).ids == ["student_b10"]
        assert socket.closed == [4403]
        assert await world.count(Guardian, id="guardian_a_mother", user_id=None) == 1
        assert await world.count(Guardianship, guardian_id="guardian_a_mother") == 1

    run(tmp_path, scenario)


def test_a_guardian_who_comes_back_is_linked_to_the_same_children(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.auth.register("a", "user_again", "mother", "13800000001")
        ask, path = world.as_(head("a")), "/students/student_a10/guardians"
        body = {"userId": "user_again", "relation": "妈妈", "canPickUp": False}
        assert (await ask("POST", path, body)).status == 409
        await deliver(world, removed("user_mother"))
        linked = await ask("POST", path, body)
        assert (linked.status, linked.data["id"]) == (201, "guardian_a_mother")
        assert (linked.data["userId"], linked.data["relation"]) == ("user_again", "妈妈")
        assert linked.data["canPickUp"] is False
        assert await world.count(Guardianship, student_id="student_a10") == 2
        assert (await ask("POST", path, body)).status == 409

    run(tmp_path, scenario)


@pytest.mark.parametrize("at", [NOW, NOW + 5])
def test_who_came_back_before_the_message_stays(tmp_path: Path, at: int) -> None:
    """Redelivered, or late: the staff record is younger than the removal."""

    async def scenario(world: World) -> None:
        await deliver(world, removed("user_teacher", at=at))
        world.clock.advance(10)
        world.auth.register("a", "user_teacher", "teacher")
        body = {"userId": "user_teacher", "classIds": ["class_a2"]}
        assert (await world.as_(head("a"))("POST", "/staff", body)).status == 201
        await deliver(world, removed("user_teacher", at=at))
        await deliver(world, removed("user_teacher", at=at, id_="msg_2"))
        assert await world.count(StaffClass, user_id="user_teacher", tenant_id="a") == 1

    run(tmp_path, scenario)


def test_several_kindergartens_at_once_do_not_mix(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await deliver(world, removed("user_teacher"), removed("user_mother", "b", id_="msg_2"))
        assert await world.count(Staff, user_id="user_teacher", tenant_id="b") == 1
        assert await world.count(Guardian, user_id="user_mother", tenant_id="a") == 1
        assert await world.count(Guardian, user_id="user_mother", tenant_id="b") == 0

    run(tmp_path, scenario)
