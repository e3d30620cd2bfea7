"""Announcements reach the audience that the tenant service names, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.notification.world import STAR, SUN, World, person, play

from yuanlian.contracts.tenant import RECIPIENTS_PATH
from yuanlian.kit.identity.principal import Principal
from yuanlian.services.notification.models import Announcement

PATH = "/api/notifications/announcements"
NEWS = {"title": "秋游", "body": "周五去植物园。\n请带水壶。", "audience": "class:class_1"}
PRINCIPAL = person("user_p", SUN, "announcement.write", "notification.read")
TEACHER = person(
    "user_t",
    SUN,
    "announcement.write",
    "notification.read",
    conditions={"announcement.write": ("resource.classId in user.classIds",)},
)
MUM = person("user_m")


def test_everybody_in_the_audience_is_told_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(TEACHER, "POST", PATH, NEWS)
        assert reply.status == 201
        assert reply.data["recipients"] == 4
        assert reply.data["id"].startswith("announcement_")

        [call] = world.tenant.calls
        assert call == (RECIPIENTS_PATH, TEACHER, {"audience": "class:class_1"})
        [told] = await world.inbox(MUM)
        assert (told["kind"], told["title"], told["body"]) == ("announcement", "秋游", NEWS["body"])
        assert told["data"] == {"announcementId": reply.data["id"]}
        assert len(await world.inbox(TEACHER)) == 1
        assert [(s.tenant_id, s.user_id) for s in world.shown] == [(SUN, "user_m"), (SUN, "user_t")]
        assert [m.data["to"] for m in await world.queued()] == [
            "m@example.org",
            "g@example.org",
            "t@example.org",
        ]
        for who in ("user_f", "user_other", "user_z", "user_p"):
            assert await world.inbox(person(who)) == []
        assert await world.inbox(person("user_m", STAR)) == []

    play(tmp_path, scenario)


def test_a_repeat_with_the_same_key_returns_the_first_result(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        replies = await asyncio.gather(
            *(world.ask(PRINCIPAL, "POST", PATH, NEWS, idempotency_key="key-1") for _ in range(20))
        )
        assert sorted(r.status for r in replies) == [200] * 19 + [201]
        assert len({r.data["id"] for r in replies}) == 1
        assert {r.data["recipients"] for r in replies} == {4}
        assert sum(r.data["duplicate"] for r in replies) == 19
        assert await world.count() == 4
        assert await world.count(Announcement) == 1
        assert len(world.shown) == 2

        other = await world.ask(PRINCIPAL, "POST", PATH, NEWS | {"title": "改"}, idempotency_key="key-1")
        assert other.status == 409
        # A key belongs to its sender.
        assert (await world.ask(TEACHER, "POST", PATH, NEWS, idempotency_key="key-1")).status == 201

    play(tmp_path, scenario)


def test_without_a_key_two_calls_are_two_announcements(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for _ in range(2):
            assert (await world.ask(PRINCIPAL, "POST", PATH, NEWS)).status == 201
        assert len(await world.inbox(MUM)) == 2

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("who", "audience", "status"),
    [
        (TEACHER, "class:class_2", 403),
        (TEACHER, "tenant", 403),
        (TEACHER, "staff", 403),
        (MUM, "class:class_1", 403),
        (PRINCIPAL, "class:class_9", 404),
        (
            person("user_p", SUN, "announcement.write", conditions={"announcement.write": ("false",)}),
            "staff",
            403,
        ),
    ],
)
def test_who_may_not_address_the_audience_tells_nobody(
    tmp_path: Path, who: Principal, audience: str, status: int
) -> None:
    async def scenario(world: World) -> None:
        assert (await world.ask(who, "POST", PATH, NEWS | {"audience": audience})).status == status
        assert await world.count(Announcement) == 0
        assert await world.count() == 0
        assert world.shown == []

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("audience", "names"),
    [
        ("tenant", {"园长", "王老师", "李妈妈", "李奶奶", "李叔叔", "王五"}),
        ("staff", {"园长", "王老师"}),
        ("class:class_2", {"王五"}),
    ],
)
def test_an_audience_is_whom_the_roster_names(tmp_path: Path, audience: str, names: set[str]) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(PRINCIPAL, "POST", PATH, NEWS | {"audience": audience})
        assert (reply.status, reply.data["recipients"]) == (201, len(names))
        assert {name for name, _, _ in await world.receipts()} == names

    play(tmp_path, scenario)


def test_an_empty_audience_is_recorded_and_told_to_nobody(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(PRINCIPAL, "POST", PATH, NEWS | {"audience": "class:class_3"})
        assert (reply.status, reply.data["recipients"]) == (201, 0)
        receipts = await world.ask(PRINCIPAL, "GET", f"/api/notifications/{reply.data['id']}/receipts")
        assert receipts.data["items"] == []

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"title": ""}, {"title"}),
        ({"title": "题" * 101, "body": " \n "}, {"title", "body"}),
        ({"body": "文" * 5001}, {"body"}),
        ({"audience": "everyone"}, {"audience"}),
        ({"audience": "class:../../x"}, {"audience"}),
        ({"audience": "tenant\n"}, {"audience"}),
        ({"urgent": True}, {"urgent"}),
    ],
)
def test_a_bad_announcement_says_what_is_wrong_with_it(
    tmp_path: Path, change: dict[str, Any], fields: set[str]
) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(PRINCIPAL, "POST", PATH, NEWS | change)
        assert reply.status == 400
        assert set(reply.problems) == fields
        assert world.tenant.calls == []

    play(tmp_path, scenario)


CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]


@pytest.mark.parametrize(
    ("language", "words"), [("zh-CN", "不能含有控制字符"), ("en", "must not contain control characters")]
)
def test_control_characters_are_refused_in_both_languages(tmp_path: Path, language: str, words: str) -> None:
    async def scenario(world: World) -> None:
        for control in CONTROLS:
            bad = NEWS | {"title": f"秋{control}游", "body": f"周五{control}"}
            reply = await world.ask(PRINCIPAL, "POST", PATH, bad, accept_language=language)
            assert (reply.status, reply.problems) == (400, {"title": words, "body": words}), repr(control)
        only_body = await world.ask(
            PRINCIPAL, "POST", PATH, NEWS | {"body": "周五\0"}, accept_language=language
        )
        assert only_body.problems == {"body": words}
        assert world.tenant.calls == []
        assert await world.count(Announcement) == 0

    play(tmp_path, scenario)


def test_lines_and_tabs_are_text(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        news = NEWS | {"body": "周五：\n\t1. 水壶 👨‍👩‍👧\n\t2. 帽子"}
        assert (await world.ask(PRINCIPAL, "POST", PATH, news)).status == 201
        [told] = await world.inbox(MUM)
        assert told["body"] == news["body"]

    play(tmp_path, scenario)


def test_a_bad_idempotency_key_is_refused(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for key in ("", " ", "x" * 65):
            assert (await world.ask(PRINCIPAL, "POST", PATH, NEWS, idempotency_key=key)).status == 400

    play(tmp_path, scenario)


def test_the_sender_and_the_principal_follow_the_receipts_page_by_page(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        id_ = (await world.ask(TEACHER, "POST", PATH, NEWS)).data["id"]
        for who in (TEACHER, PRINCIPAL):
            found: list[tuple[str, str, str]] = []
            query = "?limit=2"
            while query:
                page = (await world.ask(who, "GET", f"/api/notifications/{id_}/receipts{query}")).data
                found += [(r["recipient"], r["channel"], r["status"]) for r in page["items"]]
                query = f"?limit=2&cursor={page['nextCursor']}" if page["nextCursor"] else ""
            assert found == [
                ("李妈妈", "email", "queued"),
                ("李妈妈", "inapp", "delivered"),
                ("李奶奶", "email", "queued"),
                ("李叔叔", "inapp", "not_reached"),
                ("王老师", "email", "queued"),
                ("王老师", "inapp", "delivered"),
            ]

    play(tmp_path, scenario)


def test_nobody_else_follows_the_receipts(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        id_ = (await world.ask(PRINCIPAL, "POST", PATH, NEWS)).data["id"]
        stranger = person("user_p", STAR, "announcement.write")
        for who in (MUM, TEACHER, stranger):
            assert (await world.ask(who, "GET", f"/api/notifications/{id_}/receipts")).status == 404

    play(tmp_path, scenario)


def test_an_announcement_goes_out_by_email_as_it_was_written(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.ask(PRINCIPAL, "POST", PATH, NEWS)
        await world.send(*await world.queued())
        assert {r for r in await world.receipts() if r[1] == "email"} == {
            ("李妈妈", "email", "sent"),
            ("李奶奶", "email", "sent"),
            ("王老师", "email", "sent"),
        }
        assert len(list(world.mail.glob("*.eml"))) == 3

    play(tmp_path, scenario)
