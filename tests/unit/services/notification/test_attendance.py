"""Attendance reaches exactly the adults it was addressed to, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from sqlalchemy import Engine
from sqlalchemy import event as listening
from sqlalchemy.orm import Session
from tests.ports.cutting_proxy import Cut, CuttingProxy
from tests.unit.services.notification.world import (
    FATHER,
    GRANNY,
    MOTHER,
    NOW,
    STAR,
    SUN,
    UNCLE,
    World,
    event,
    person,
    play,
)

from yuanlian.contracts.attendance import Recipient
from yuanlian.kit.database.database import Database
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.realtime.hub import Event
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.redis import RedisAwayError
from yuanlian.services.notification.models import Receipt
from yuanlian.services.notification.service import NotificationService

T = TypeVar("T")


def test_exactly_the_recipients_of_a_check_in_are_told(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(recipients=(MOTHER, FATHER)))

        [told] = await world.inbox(person("user_m"))
        assert told["kind"] == "attendance"
        assert told["title"] == "小明已入园"
        assert told["body"] == "小一班 小明 于 08:00 入园。"
        assert told["data"]["eventId"] == "event_1"
        assert told["data"]["studentId"] == "student_1"
        assert told["createdAt"] == NOW
        assert told["readAt"] is None
        assert len(await world.inbox(person("user_f"))) == 1
        assert await world.inbox(person("user_other")) == []
        assert await world.count() == 2

    play(tmp_path, scenario)


def test_a_reader_reads_in_their_own_language(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(temperature=36.64, timeZone="Asia/Tokyo"))
        reply = await world.ask(person("user_m"), "GET", "/api/notifications", accept_language="en")
        [told] = reply.data["items"]
        assert told["title"] == "小明 has arrived"
        assert told["body"] == "小明 (小一班) arrived at 09:00. Temperature 36.6 °C."

    play(tmp_path, scenario)


def test_fifty_deliveries_of_one_event_tell_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        message = event(recipients=(MOTHER, FATHER))
        await asyncio.gather(*(world.attendance(message) for _ in range(25)))
        await world.attendance(*[message] * 25)
        assert await world.count() == 2
        assert len(world.shown) == 2
        assert len(await world.queued()) == 1

    play(tmp_path, scenario)


def test_a_replay_beside_something_new_tells_nobody_twice(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        message = event(recipients=(MOTHER, FATHER))
        await world.attendance(message)
        await world.attendance(message, event("event_2"))
        assert await world.count() == 3
        assert len(world.shown) == 3
        assert len(await world.queued()) == 2

    play(tmp_path, scenario)


@pytest.mark.parametrize("when", ["before", "after"])
def test_news_are_shown_once_though_the_answer_to_the_commit_was_lost(
    tmp_path: Path, technology: str, when: Cut
) -> None:
    """Cut after the server has heard of the COMMIT, the second run finds the notifications of the first."""
    if technology != "mariadb":
        pytest.skip("SQLite's COMMIT has its answer in the same process")

    async def scenario(world: World) -> None:
        assert isinstance(world.database, MysqlDatabase)
        direct = world.database._url
        proxy = CuttingProxy(direct.port or 0)
        through = MysqlDatabase(
            direct.set(port=await proxy.start()).render_as_string(hide_password=False), writers=1
        )
        service = NotificationService(
            database=through, clock=world.clock, client=world.tenant, realtime=world.hub
        )
        try:
            await service.tell_guardians([event("event_1")])  # opens the connection
            proxy.cut(b"COMMIT", when)
            await service.tell_guardians([event("event_2", recipients=(MOTHER, FATHER))])
        finally:
            await through.close()
            await proxy.close()
        assert proxy.cuts == 1
        assert await world.count() == 3
        assert [shown.user_id for shown in world.shown] == ["user_m", "user_m", "user_f"]

    play(tmp_path, scenario)


class GivenUpOnce:
    """A database that gives its first transaction up when its work is done and runs it again, as after a
    deadlock or a lost connection; ``meanwhile``: what others do in between."""

    def __init__(self, database: Database, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile

    async def read(self, work: Callable[[Session], T]) -> T:
        return await self._database.read(work)

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:

            def undone(session: Session) -> None:
                work(session)
                raise GivenUpError

            with pytest.raises(GivenUpError):
                await self._database.write(undone)
            await meanwhile()
        return await self._database.write(work, repeatable=repeatable)

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self._database.close()


class GivenUpError(Exception):
    """The server's decision."""


@pytest.mark.parametrize("beside", [(), (event("event_2"),)], ids=["alone", "beside something new"])
def test_news_of_a_transaction_that_was_given_up_are_not_shown(
    tmp_path: Path, beside: tuple[Message, ...]
) -> None:
    """Another process has told it meanwhile: the first run's notifications are not in any inbox."""

    async def scenario(world: World) -> None:
        message = event(recipients=(MOTHER, FATHER))
        database = GivenUpOnce(world.database, lambda: world.attendance(message))
        service = NotificationService(
            database=database, clock=world.clock, client=world.tenant, realtime=world.hub
        )
        await service.tell_guardians([message, *beside])
        assert await world.count() == 2 + len(beside)
        stored = {told["id"] for user in ("user_m", "user_f") for told in await world.inbox(person(user))}
        shown = [shown.message["data"]["id"] for shown in world.shown]
        assert sorted(shown) == sorted(stored)
        assert len(await world.queued()) == 1 + len(beside)

    play(tmp_path, scenario)


class Unheard(MemoryHub):
    """Live events that reach nobody: Redis is away."""

    async def publish(self, events: Sequence[Event]) -> None:
        raise RedisAwayError


def test_guardians_are_told_while_live_events_reach_nobody(tmp_path: Path) -> None:
    """The inbox has it: that the live news did not leave is no reason to do all of it again."""

    async def scenario(world: World) -> None:
        service = NotificationService(
            database=world.database,
            clock=world.clock,
            client=world.tenant,
            realtime=Unheard(msgspec.json.encode),
        )
        await service.tell_guardians([event(recipients=(MOTHER, FATHER))])
        assert len(await world.inbox(person("user_m"))) == 1
        assert await world.count() == 2

    play(tmp_path, scenario)


def test_a_recipient_listed_twice_is_told_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(recipients=(FATHER, FATHER)))
        assert await world.count() == 1

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "quiet",
    [{"late": True}, {"type": "leave", "dayState": "leave"}, {"recipients": ()}],
    ids=["late", "leave", "nobody"],
)
def test_some_events_announce_nothing(tmp_path: Path, quiet: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(**quiet))
        assert await world.count() == 0
        assert await world.count(Receipt) == 0
        assert await world.queued() == []
        assert world.shown == []

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("type_", "title"),
    [("check_out", "小明已离园"), ("absent", "小明缺勤")],
)
def test_leaving_and_absence_are_told(tmp_path: Path, type_: str, title: str) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(type=type_))
        [told] = await world.inbox(person("user_m"))
        assert told["title"] == title

    play(tmp_path, scenario)


def test_one_batch_of_two_kindergartens_stays_apart(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        # The same guardian in both, and ids that happen to be equal.
        await world.attendance(event("event_1", SUN), event("event_1", STAR, studentName="小红"))
        assert [n["title"] for n in await world.inbox(person("user_m", SUN))] == ["小明已入园"]
        [other] = await world.inbox(person("user_m", STAR))
        assert other["title"] == "小红已入园"
        reply = await world.ask(person("user_m", SUN), "POST", f"/api/notifications/{other['id']}/read")
        assert reply.status == 404
        assert [(s.tenant_id, s.user_id) for s in world.shown] == [(SUN, "user_m"), (STAR, "user_m")]

    play(tmp_path, scenario)


def test_there_is_one_receipt_per_recipient_and_channel(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(recipients=(MOTHER, FATHER, GRANNY, UNCLE)))
        assert await world.receipts() == {
            ("李妈妈", "inapp", "delivered"),
            ("李妈妈", "email", "queued"),
            ("李爸爸", "inapp", "delivered"),
            ("李奶奶", "email", "queued"),
            ("李叔叔", "inapp", "not_reached"),
        }

    play(tmp_path, scenario)


def test_a_guardian_with_an_address_gets_an_email_of_the_same_transaction(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        cause = msgspec.structs.replace(
            event(recipients=(GRANNY, FATHER)), requestId="req_1", userId="user_t"
        )
        await world.attendance(cause)
        [email] = await world.queued()
        assert (email.type, email.tenantId) == ("notification.email", SUN)
        assert (email.requestId, email.userId) == ("req_1", "user_t")
        assert (email.data["to"], email.data["subject"]) == ("g@example.org", "小明已入园")
        assert email.data["receiptId"].startswith("receipt_")

    play(tmp_path, scenario)


def test_only_those_who_can_sign_in_are_pushed_to(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(recipients=(MOTHER, GRANNY, UNCLE)))
        [shown] = world.shown
        assert (shown.tenant_id, shown.user_id) == (SUN, "user_m")
        assert shown.message["type"] == "notification"
        [stored] = await world.inbox(person("user_m"))
        assert shown.message["data"] == stored

    play(tmp_path, scenario)


def test_a_malformed_event_keeps_nothing_of_its_batch(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        broken = Message.new("attendance.update", SUN, {"id": "event_x"})
        with pytest.raises(msgspec.DecodeError):
            await world.attendance(event(), broken)
        assert await world.count() == 0
        await world.attendance(event())
        assert await world.count() == 1

    play(tmp_path, scenario)


def test_a_batch_takes_the_same_few_statements_whatever_its_size(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        statements: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith(("BEGIN", "SAVEPOINT", "RELEASE")):
                statements.append(statement)

        async def taken(size: int) -> int:
            batch = [
                event(f"event_{size}_{n}", f"tenant_{n % 50}", recipients=(MOTHER, FATHER))
                for n in range(size)
            ]
            statements.clear()
            await world.attendance(*batch)
            return len(statements)

        listening.listen(Engine, "before_cursor_execute", note)
        try:
            assert await taken(1) == await taken(128) == 3, statements
        finally:
            listening.remove(Engine, "before_cursor_execute", note)
        assert await world.count() == 258

    play(tmp_path, scenario)


def test_a_guardian_who_was_not_entitled_at_the_commit_is_never_told(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        later = Recipient("guardian_l", "后来的人", "其他", userId="user_l")
        await world.attendance(event("event_1", recipients=(MOTHER,)))
        await world.attendance(event("event_2", type="check_out", recipients=(MOTHER, later)))
        assert [n["data"]["eventId"] for n in await world.inbox(person("user_l"))] == ["event_2"]

    play(tmp_path, scenario)
