"""The ties between users and children, and who may follow or reach whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from tests.unit.services.tenant.roster_world import OWN_CHILD, World, head, mother, operator, run, teacher

from yuanlian.contracts.tenant import CHANNEL_CHECK_PATH, CHANNELS_PATH, RECIPIENTS_PATH
from yuanlian.gateway.routes import DEFAULT_ROUTES, RouteTable
from yuanlian.kit.errors import NotFoundError, TenantRequiredError
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.scope import tenant_group, tenant_scope
from yuanlian.services.tenant.access import NO_TIES, Access, Attributes, attributes_of, attributes_of_many


def test_ties_are_those_of_the_tenant_at_hand(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        with tenant_scope("a"):
            taught = await world.database.read(lambda s: attributes_of(s, "user_teacher"))
            child = await world.database.read(lambda s: attributes_of(s, "user_mother"))
            assert await world.database.read(lambda s: attributes_of(s, "nobody")) == NO_TIES
        assert taught == Attributes(frozenset({"class_a1"}))
        assert child == Attributes(frozenset(), frozenset({"student_a10"}), frozenset({"class_a1"}))

    run(tmp_path, scenario)


def test_a_group_is_looked_up_in_two_statements_and_never_mixes_tenants(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        statements: list[str] = []
        database: Any = world.database  # its engine is not part of the port
        event.listen(database._reader, "before_cursor_execute", lambda *a: statements.append(a[2]))
        keys = [("a", "user_teacher"), ("b", "user_mother"), ("a", "nobody")]
        with tenant_group(("a", "b")):
            ties = await world.database.read(lambda s: attributes_of_many(s, keys))
        assert len([text for text in statements if text.startswith("SELECT")]) == 2
        assert ties == {
            ("a", "user_teacher"): Attributes(frozenset({"class_a1"})),
            ("b", "user_mother"): Attributes(
                frozenset(), frozenset({"student_b10"}), frozenset({"class_b1"})
            ),
            ("a", "nobody"): NO_TIES,
        }

    run(tmp_path, scenario)


def test_without_a_tenant_there_are_no_ties_to_ask_for(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(TenantRequiredError):
            await world.database.read(lambda s: attributes_of_many(s, [("a", "user_mother")]))

    run(tmp_path, scenario)


def test_a_guardian_knows_the_class_of_active_children_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.as_(head("a"))("PATCH", "/students/student_a10", {"status": "graduated"})
        ask = world.as_(mother("a"))
        assert (await ask("GET", "/classes")).ids == []
        assert (await ask("GET", "/students")).ids == ["student_a10"]
        assert (await ask("GET", CHANNELS_PATH)).data["channels"] == []

    run(tmp_path, scenario)


def test_a_broken_condition_denies(tmp_path: Path) -> None:
    access = Access(Authorizer())
    for condition in ("resource.", "resource.unknown == 1", "1", "user.classIds"):
        principal = Principal("u", "a", (), frozenset({"student.read"}), {"student.read": (condition,)})
        assert not access.allows(principal, "student.read", {"id": "s", "classId": "c"}, NO_TIES)


@pytest.mark.parametrize(
    ("who", "channels"),
    [
        (head("a"), ["tenant"]),
        (teacher("a"), ["class:class_a1"]),
        (mother("a"), ["student:student_a10"]),
        (operator(), []),
    ],
)
def test_each_follows_what_is_theirs(tmp_path: Path, who: Principal, channels: list[str]) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(who)
        assert (await ask("GET", CHANNELS_PATH)).data["channels"] == channels
        for channel in channels:
            assert (await ask("GET", f"{CHANNEL_CHECK_PATH}?channel={channel}")).status == 200

    run(tmp_path, scenario)


def test_a_teacher_with_a_child_here_follows_both(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.auth.register("a", "user_teacher", "teacher", "13700000000")
        body = {"userId": "user_teacher", "relation": "妈妈"}
        await world.as_(head("a"))("POST", "/students/student_a20/guardians", body)
        both = teacher("a")
        both.conditions["attendance.read"] += OWN_CHILD
        ask = world.as_(both)
        assert (await ask("GET", CHANNELS_PATH)).data["channels"] == [
            "class:class_a1",
            "student:student_a20",
        ]
        assert (await ask("GET", f"{CHANNEL_CHECK_PATH}?channel=class:class_a2")).status == 403

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("who", "channel", "status"),
    [
        (head("a"), "class:class_a2", 200),
        (head("a"), "class:class_b1", 404),
        (head("a"), "student:student_b10", 404),
        (head("a"), "user:user_mother", 400),
        (head("a"), "class:", 400),
        (teacher("a"), "class:class_a2", 403),
        (teacher("a"), "student:student_a11", 200),
        (teacher("a"), "student:student_a20", 403),
        (teacher("a"), "tenant", 403),
        (mother("a"), "class:class_a1", 403),
        (mother("a"), "student:student_a11", 403),
        (mother("a"), "student:student_b10", 404),
        (mother("a"), "tenant", 403),
        (operator(), "tenant", 403),
    ],
)
def test_nobody_follows_what_is_not_theirs(tmp_path: Path, who: Principal, channel: str, status: int) -> None:
    async def scenario(world: World) -> None:
        answer = await world.as_(who)("GET", f"{CHANNEL_CHECK_PATH}?channel={channel}")
        assert answer.status == status

    run(tmp_path, scenario)


def _names(data: Any) -> list[tuple[str, str]]:
    return sorted((member["kind"], member["name"]) for member in data["members"])


def test_an_announcement_reaches_staff_and_guardians_who_want_notices(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        whole = await ask("GET", f"{RECIPIENTS_PATH}?audience=tenant")
        assert _names(whole.data) == [("guardian", "mother"), ("staff", "head"), ("staff", "teacher")]
        staff = await ask("GET", f"{RECIPIENTS_PATH}?audience=staff")
        assert _names(staff.data) == [("staff", "head"), ("staff", "teacher")]
        first = await ask("GET", f"{RECIPIENTS_PATH}?audience=class:class_a1")
        assert _names(first.data) == [("guardian", "mother"), ("staff", "teacher")]
        assert _names((await ask("GET", f"{RECIPIENTS_PATH}?audience=class:class_a2")).data) == []

    run(tmp_path, scenario)


def test_somebody_who_is_both_hears_it_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        world.auth.register("a", "user_teacher", "teacher", "13700000000")
        body = {"userId": "user_teacher", "relation": "妈妈"}
        for child in ("student_a11", "student_a12"):
            assert (await ask("POST", f"/students/{child}/guardians", body)).status == 201
        members = (await ask("GET", f"{RECIPIENTS_PATH}?audience=class:class_a1")).data["members"]
        assert [m["kind"] for m in members if m["userId"] == "user_teacher"] == ["staff"]

    run(tmp_path, scenario)


def test_children_who_left_bring_nobody(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        await ask("PATCH", "/students/student_a10", {"status": "withdrawn"})
        whole = await ask("GET", f"{RECIPIENTS_PATH}?audience=tenant")
        assert ("guardian", "mother") not in _names(whole.data)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("who", "audience", "status"),
    [
        (teacher("a"), "class:class_a1", 200),
        (teacher("a"), "class:class_a2", 403),
        (teacher("a"), "tenant", 403),
        (teacher("a"), "staff", 403),
        (head("a"), "class:class_b1", 404),
        (head("a"), "everybody", 400),
        (mother("a"), "class:class_a1", 403),
    ],
)
def test_a_teacher_announces_to_the_own_class_only(
    tmp_path: Path, who: Principal, audience: str, status: int
) -> None:
    async def scenario(world: World) -> None:
        assert (await world.as_(who)("GET", f"{RECIPIENTS_PATH}?audience={audience}")).status == status

    run(tmp_path, scenario)


def test_an_audience_is_told_to_services_only_and_without_phone_numbers(tmp_path: Path) -> None:
    """``announcement.write`` alone once opened everybody's name and number."""

    async def scenario(world: World) -> None:
        announcer = Principal("user_x", "a", (), frozenset({"announcement.write"}))
        ask = world.as_(announcer)
        for path in ("/recipients?audience=tenant", "/channels", "/channels/check?channel=tenant"):
            assert (await ask("GET", path)).status == 404
        whole = await ask("GET", f"{RECIPIENTS_PATH}?audience=tenant")
        assert {key for member in whole.data["members"] for key in member} <= {
            "name",
            "kind",
            "userId",
            "email",
        }
        internal = (CHANNELS_PATH, CHANNEL_CHECK_PATH, RECIPIENTS_PATH)
        public = world.app.litestar.openapi_schema.paths or {}
        assert public
        assert not set(internal) & set(public)
        table = RouteTable.load(DEFAULT_ROUTES.read_text(encoding="utf-8"))
        for path in internal:
            with pytest.raises(NotFoundError):
                table.match("GET", path)

    run(tmp_path, scenario)
