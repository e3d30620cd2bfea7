"""E-mail leaves the queue once, and its receipt says what became of it."""

from __future__ import annotations

import asyncio
import email
import os
import stat
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select
from tests.unit.services.notification.world import FATHER, GRANNY, MOTHER, SUN, World, event, person, play

from yuanlian.contracts.attendance import Recipient
from yuanlian.contracts.notification import SendEmail
from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.messaging import outbox
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.tables import DeadLetterRow, DeliveryRow, OutboxRow
from yuanlian.services.notification.eml import EmlMailer
from yuanlian.services.notification.mailer import Email


def letters(folder: Path) -> dict[str, EmailMessage]:
    """By message id."""
    parsed = {
        path.stem: email.message_from_bytes(path.read_bytes(), policy=default)
        for path in sorted(folder.glob("*.eml"))
    }
    return {id_: message for id_, message in parsed.items() if isinstance(message, EmailMessage)}


def text_of(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


def test_a_queued_email_becomes_a_letter_and_its_receipt_says_sent(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(recipients=(GRANNY,)))
        [queued] = await world.queued()
        await world.send(queued)

        [(id_, letter)] = letters(world.mail).items()
        assert id_ == queued.id
        assert letter["To"] == "g@example.org"
        assert letter["Subject"] == "小明已入园"
        assert letter["Message-ID"] == f"<{queued.id}@yuanlian.invalid>"
        assert text_of(letter, "plain") == "小一班 小明 于 08:00 入园。\n"
        assert "<p>小一班 小明 于 08:00 入园。</p>" in text_of(letter, "html")
        assert await world.receipts() == {("李奶奶", "email", "sent")}

    play(tmp_path, scenario)


def test_letters_on_disk_are_for_their_owner_alone(tmp_path: Path) -> None:
    letter = Email("msg_1", "a@example.org", "题目", "正文\n", "<p>正文</p>", 1_700_000_000_000)
    folder = tmp_path / "data" / "mail"
    before = os.umask(0)
    try:
        asyncio.run(EmlMailer(folder).send([letter]))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600]


def test_a_redelivered_email_is_not_sent_again(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(recipients=(GRANNY,)))
        [queued] = await world.queued()
        await world.send(queued)
        (world.mail / f"{queued.id}.eml").unlink()
        await world.send(queued)
        assert letters(world.mail) == {}

    play(tmp_path, scenario)


def test_a_letter_written_twice_is_one_file_of_the_same_bytes(tmp_path: Path) -> None:
    async def scenario() -> None:
        mailer = EmlMailer(tmp_path)
        letter = Email("msg_1", "a@example.org", "题目", "正文\n", "<p>正文</p>", 1_700_000_000_000)
        await mailer.send([letter])
        first = (tmp_path / "msg_1.eml").read_bytes()
        await mailer.send([letter])
        assert [path.name for path in tmp_path.iterdir()] == ["msg_1.eml"]
        assert (tmp_path / "msg_1.eml").read_bytes() == first

    asyncio.run(scenario())


def test_a_file_name_never_leaves_its_folder(tmp_path: Path) -> None:
    async def scenario() -> None:
        letter = Email("../../etc/x", "a@example.org", "s", "t\n", "<p>t</p>", 0)
        await EmlMailer(tmp_path / "mail").send([letter])
        assert [path.name for path in tmp_path.rglob("*.eml")] == ["______etc_x.eml"]

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["", "nobody", "a@b\r\nBcc: c@example.org", "a@b, c@d", "<a@b>"])
def test_a_bad_address_fails_for_good(tmp_path: Path, address: str) -> None:
    async def scenario(world: World) -> None:
        await world.attendance(event(recipients=(GRANNY,)))
        [queued] = await world.queued()
        await world.send(msgspec.structs.replace(queued, data={**queued.data, "to": address}))
        assert await world.receipts() == {("李奶奶", "email", "failed")}
        assert letters(world.mail) == {}

    play(tmp_path, scenario)


def test_a_subject_cannot_smuggle_a_header_nor_a_body_markup(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        command = SendEmail(
            to="a@example.org",
            subject="好\r\nBcc: evil@example.org\x00",
            template="announcement",
            variables={"title": "<b>{body.__class__}</b>", "body": "<script>alert(1)</script>\n第二行"},
        )
        await world.send(Message.new("notification.email", SUN, msgspec.to_builtins(command)))
        [letter] = letters(world.mail).values()
        assert letter["Bcc"] is None
        assert letter["Subject"] == "好 Bcc: evil@example.org"
        page = text_of(letter, "html")
        assert "&lt;script&gt;alert(1)&lt;/script&gt;</p><p>第二行" in page
        assert "&lt;b&gt;{body.__class__}&lt;/b&gt;" in page

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        {"template": "no_such"},
        {"template": "attendance_check_in", "variables": {}},
        {"template": "attendance_absent", "variables": {"studentName": "a", "className": "b", "date": "x"}},
        {
            "template": "attendance_check_in",
            "variables": {"studentName": "a", "className": "b", "occurredAt": 0, "timeZone": "Mars/Base"},
        },
    ],
    ids=["template", "variables", "date", "zone"],
)
def test_a_command_that_fills_no_template_is_refused_for_good(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        data = {"to": "a@example.org", "subject": "s", "variables": {}} | wrong
        with pytest.raises(ValidationError):
            await world.send(Message.new("notification.email", SUN, data))

    play(tmp_path, scenario)


def test_the_folder_being_unwritable_is_worth_another_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "mail").write_text("a file stands where the folder should be")
        letter = Email("msg_1", "a@example.org", "s", "t\n", "<p>t</p>", 0)
        [outcome] = await EmlMailer(tmp_path / "mail").send([letter])
        assert outcome.result == "deferred"

    asyncio.run(scenario())


def test_over_the_real_bus_an_event_ends_in_an_inbox_and_a_letter(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        clock = SystemClock()
        bus = LocalBus(world.database, clock)
        for subscription in world.module.subscriptions:
            bus.subscribe(subscription)
        relay = Relay(world.database, bus, clock)
        people = (
            MOTHER,
            FATHER,
            *(Recipient(f"guardian_{n}", "人", "父亲", email=f"{n}@x.org") for n in range(40)),
        )
        await bus.start()
        await relay.start()
        await world.database.write(lambda s: outbox.add(s, [event(recipients=people)]))

        async def pending() -> int:
            return await world.database.read(
                lambda s: sum(
                    s.scalar(select(func.count()).select_from(t)) or 0 for t in (OutboxRow, DeliveryRow)
                )
            )

        while await pending():
            await asyncio.sleep(0.01)
        await relay.stop()
        await bus.stop()
        assert len(letters(world.mail)) == 41
        assert {status for _, channel, status in await world.receipts() if channel == "email"} == {"sent"}
        assert len(await world.inbox(person("user_f"))) == 1

    play(tmp_path, scenario)


def test_a_letter_that_the_bus_gives_up_has_failed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        # Nothing can be written: a file stands where the folder should be.
        world.mail.write_text("")
        clock = ManualClock(SystemClock().now_ms())
        bus = LocalBus(world.database, clock, poll=0.005)
        bus.subscribe(world.subscription("email.queue"))
        await world.attendance(event(recipients=(GRANNY,)))
        [queued] = await world.queued()
        await bus.start()
        await bus.publish([msgspec.structs.replace(queued, retry=1)])

        async def becomes(status: str, dead: int) -> None:
            while (
                await world.receipts() != {("李奶奶", "email", status)}
                or await world.count(DeadLetterRow) != dead
            ):
                await asyncio.sleep(0.005)

        while await world.database.read(lambda s: s.scalar(select(DeliveryRow.attempt))) != 1:
            await asyncio.sleep(0.005)
        await becomes("queued", dead=0)
        clock.advance(1_000)
        await becomes("failed", dead=1)

        # The operator makes room and replays the dead letter.
        world.mail.unlink()
        await world.send(queued)
        assert await world.receipts() == {("李奶奶", "email", "sent")}
        await bus.stop()

    play(tmp_path, scenario)
