"""``yuanlian dead-letters`` where the queues are RabbitMQ's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import insert
from tests.support import servers
from typer.testing import CliRunner, Result

from deploy.servers.rabbitmq import RabbitMq
from yuanlian.contracts.queues import QUEUES
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.schema import table_of
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.errors import ConflictError
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus
from yuanlian.kit.messaging.rabbitmq_dead_letters import RabbitMqDeadLetters
from yuanlian.kit.messaging.repository import OUTBOX, encode
from yuanlian.kit.messaging.tables import DeadLetterRow
from yuanlian.runtime.cli import app
from yuanlian.runtime.schema import upgrade

pytestmark = pytest.mark.servers
EMAIL = "email.queue"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RabbitMq]:
    server = servers.own_rabbitmq(tmp_path)
    yield server
    server.stop()


def email() -> Message:
    return Message.new("notification.email", "tenant_sunshine", {"to": "a@example.org"})


async def let_two_die(server: RabbitMq, database: SqliteDatabase) -> None:
    """One in RabbitMQ, one that could not leave the outbox."""

    async def refuse(_: Sequence[Message]) -> None:
        raise ConflictError

    bus = RabbitMqBus(server.url, SystemClock(), bindings=QUEUES)
    bus.subscribe(Subscription(EMAIL, QUEUES[EMAIL], refuse))
    await bus.start()
    await bus.publish([email()])
    async with asyncio.timeout(10):
        while not (await RabbitMqDeadLetters(bus, server.url).list())[0]:
            await asyncio.sleep(0.05)
    await bus.stop()
    message = email()
    row = {"queue": OUTBOX, "message_id": message.id, "reason": "too large", "attempts": 0}
    row |= {"failed_at": 1, "body": encode(message)}
    await database.write(lambda session: session.execute(insert(table_of(DeadLetterRow)), [row]))


async def next_in_its_queue(server: RabbitMq) -> str:
    """The id of the message that a consumer gets."""
    got: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handle(messages: Sequence[Message]) -> None:
        got.set_result(messages[0].id)

    bus = RabbitMqBus(server.url, SystemClock(), bindings=QUEUES)
    bus.subscribe(Subscription(EMAIL, QUEUES[EMAIL], handle))
    await bus.start()
    id_ = await asyncio.wait_for(got, 10)
    await bus.stop()
    return id_


def test_they_are_listed_with_those_of_the_outbox_and_replayed(
    server: RabbitMq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("YUANLIAN_")]:
        monkeypatch.delenv(name)

    async def prepare() -> None:
        database = SqliteDatabase(tmp_path / "data" / "yuanlian.db")
        database.migrate(upgrade)
        await let_two_die(server, database)
        await database.close()

    asyncio.run(prepare())

    def run(*words: str, url: str = server.url) -> Result:
        settings = {"YUANLIAN_BUS_URL": url, "YUANLIAN_DATA_DIR": str(tmp_path / "data")}
        return CliRunner().invoke(app, ["dead-letters", *words], env=settings)

    listed = run("list")
    assert (listed.exit_code, listed.stderr) == (0, "")
    letters = [line.split() for line in listed.stdout.splitlines() if "msg_" in line]
    assert [letter[1] for letter in letters] == [EMAIL, OUTBOX]
    assert "ConflictError" in listed.stdout

    replayed = run("replay", letters[0][0])
    assert (replayed.exit_code, replayed.stdout) == (0, "1 replayed\n")
    assert asyncio.run(next_in_its_queue(server)) == letters[0][4]

    assert run("replay", "--queue", OUTBOX).stdout == "1 replayed\n"
    assert run("list").stdout == "no dead letters\n"

    away = run("list", url="amqp://yuanlian:secret-word@127.0.0.1:1/")
    assert away.exit_code == 1
    assert "RabbitMQ at 127.0.0.1:1 cannot be used" in away.stderr
    assert "secret-word" not in away.stdout + away.stderr
