"""The commands of an operator, on a data directory as a platform leaves it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session
from tests.support import servers
from tests.support.command_line import Run, run
from tests.support.silence import silent

from deploy.servers.mariadb import DATABASE, PASSWORD, USER
from yuanlian.kit.database.schema import table_of
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import encode
from yuanlian.kit.messaging.tables import DeadLetterRow
from yuanlian.runtime.datadir import DataDirLock
from yuanlian.runtime.demo.load import load_demo
from yuanlian.runtime.schema import HEAD, upgrade

__all__ = ["run"]

QUEUE = "notification.queue"
REASON = "ServiceUnavailableError: " + "the mail server was not there, " * 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The demo kindergartens, and three messages that their queues gave up on."""

    async def make(database: SqliteDatabase) -> None:
        database.migrate(upgrade)
        await load_demo(database)
        await database.write(_bury)
        await database.close()

    asyncio.run(make(SqliteDatabase(tmp_path / "data" / "yuanlian.db")))
    return tmp_path / "data"


def _bury(session: Session) -> None:
    letters = [_letter(QUEUE, "a"), _letter(QUEUE, "b"), _letter("email.queue", "c")]
    session.execute(insert(table_of(DeadLetterRow)), letters)


def _letter(queue: str, name: str) -> dict[str, object]:
    message = Message.new("attendance.update", "tenant_sunshine", {"name": name})
    return {
        "queue": queue,
        "message_id": message.id,
        "reason": REASON,
        "attempts": 4,
        "failed_at": 1_790_000_000_000,
        "body": encode(message),
    }


def _rows(data: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(data / "yuanlian.db")) as connection:
        return connection.execute(query).fetchall()


def _lines(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if line.strip()]


# --- tenants, routes, migrate -----------------------------------------------------------------------


def test_tenants_are_listed_and_nothing_else_is_said(run: Run, data: Path) -> None:
    result = run("tenants", data_dir=str(data))
    assert (result.exit_code, result.stderr) == (0, "")
    heading, _, *tenants = _lines(result.stdout)
    assert heading == ["id", "name", "domain", "status", "isolation"]
    assert tenants == [
        ["platform", "园联平台", "-", "active", "shared"],
        ["tenant_star", "星星幼儿园", "star.localhost", "active", "shared"],
        ["tenant_sunshine", "阳光幼儿园", "sun.localhost", "active", "shared"],
    ]


def test_routes_are_shown_whole(run: Run) -> None:
    result = run("routes")
    assert (result.exit_code, result.stderr) == (0, "")
    [login] = [line for line in _lines(result.stdout) if line[0] == "/api/auth/login"]
    assert " ".join(login) == "/api/auth/login auth-service POST no 100 / 900 s per ip"
    assert "/api/tenant/students/import" in result.stdout


def test_a_bad_routes_file_is_refused_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("routes:\n  - {path: /a, methods: [GET]}\n")
    result = run("routes", routes="routes.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "routes.yaml, line 2: " in result.stderr


def test_migrate_says_from_where_to_where(run: Run, data: Path) -> None:
    assert run("migrate", "--data-dir", str(data)).stdout == f"schema {HEAD}, as before\n"


def test_migrate_leaves_a_running_platform_alone(run: Run, data: Path) -> None:
    with DataDirLock(data):
        result = run("migrate", "--data-dir", str(data))
    assert result.exit_code == 1
    assert f"held by process {os.getpid()}" in result.stderr


# --- dead letters -----------------------------------------------------------------------------------


def test_dead_letters_are_listed_with_all_of_their_reason(run: Run, data: Path) -> None:
    result = run("dead-letters", "list", data_dir=str(data))
    assert (result.exit_code, result.stderr) == (0, "")
    _, _, *letters = _lines(result.stdout)
    assert [letter[:2] for letter in letters] == [["3", "email.queue"], ["2", QUEUE], ["1", QUEUE]]
    assert result.stdout.count(REASON.strip()) == 3
    only = run("dead-letters", "list", "--queue", "email.queue", data_dir=str(data))
    assert [letter[0] for letter in _lines(only.stdout)[2:]] == ["3"]
    assert run("dead-letters", "list", "--queue", "none", data_dir=str(data)).stdout == "no dead letters\n"


def test_a_replayed_letter_is_in_its_queue_again(run: Run, data: Path) -> None:
    result = run("dead-letters", "replay", "1", "3", data_dir=str(data))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "2 replayed\n", "")
    assert _rows(data, "SELECT id FROM dead_letters") == [(2,)]
    assert set(_rows(data, "SELECT queue, attempt FROM bus_deliveries")) == {(QUEUE, 0), ("email.queue", 0)}


def test_a_queue_is_replayed_as_a_whole(run: Run, data: Path) -> None:
    result = run("dead-letters", "replay", "--queue", QUEUE, data_dir=str(data))
    assert (result.exit_code, result.stdout) == (0, "2 replayed\n")
    assert _rows(data, "SELECT queue FROM dead_letters") == [("email.queue",)]


def test_a_number_that_is_no_letter_is_said(run: Run, data: Path) -> None:
    result = run("dead-letters", "replay", "2", "99", data_dir=str(data))
    assert (result.exit_code, result.stdout) == (1, "1 replayed\n")
    assert "1 of the numbers" in result.stderr
    assert run("dead-letters", "replay", data_dir=str(data)).exit_code == 1


# --- check ------------------------------------------------------------------------------------------


def test_check_tells_settings_their_source_and_that_all_is_well(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "yuanlian.toml").write_text('port = 9000\nlog_level = "warn"\n')
    secret = "a secret of more than thirty-two bytes"
    result = run("check", "--data-dir", str(data), port="9001", jwt_secret=secret, smpt_url="smtp://x")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    shown = {line[0]: line[1:] for line in _lines(result.stdout)}
    assert shown["YUANLIAN_PORT"] == ["9001", "environment"]
    assert shown["YUANLIAN_LOG_LEVEL"] == ["warn", "yuanlian.toml"]
    assert shown["YUANLIAN_DATA_DIR"] == [str(data), "option"]
    assert shown["YUANLIAN_HOST"] == ["127.0.0.1", "default"]
    assert shown["YUANLIAN_JWT_SECRET"] == ["********", "environment"]
    assert secret not in result.stdout
    assert "YUANLIAN_SMPT_URL is in the environment, but there is no such setting" in result.stdout
    assert f"answers, schema {HEAD}" in result.stdout


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        ({"bus_url": "kafka://guest:geheim@127.0.0.1"}, "FAIL  settings: bus_url"),
        ({"bus_url": "geheim"}, "FAIL  settings: bus_url"),
        (
            {"database_url": "postgresql://name:geheim@127.0.0.1/x"},
            "database_url: postgresql:… is not sqlite:///PATH",
        ),
        (
            {"database_url": "sqlite:///text.db"},
            "FAIL  database: YUANLIAN_DATABASE_URL (from: environment) sqlite:///text.db: file is not",
        ),
        ({"routes": "text.db"}, "FAIL  routes: text.db, line 1"),
        (
            {"smtp_url": "smtp://name:geheim@127.0.0.1:1"},
            "FAIL  mail: YUANLIAN_SMTP_URL (from: environment) ********: SMTPConnectError",
        ),
        (
            {"smtp_url": "mailto:x"},
            "FAIL  mail: YUANLIAN_SMTP_URL (from: environment) ********: an SMTP URL is",
        ),
    ],
)
def test_check_finds_what_is_unfit(
    run: Run, data: Path, tmp_path: Path, settings: dict[str, str], finding: str
) -> None:
    (tmp_path / "text.db").write_text("This was never a database, and not a table of routes either. " * 3)
    result = run("check", "--data-dir", str(data), **settings)
    assert result.exit_code == 1
    assert finding in result.stdout
    assert "geheim" not in result.stdout + result.stderr
    assert result.stdout.count("FAIL") == 1


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({}, "ok database: yuanlian@127.0.0.1:"),
        (
            {"password": "geheim"},
            "FAIL database: YUANLIAN_DATABASE_URL (from: environment) mysql://yuanlian:********@127.0.0.1:",
        ),
        ({"database": "yuanlian_none"}, "there is no such database"),
        ({"port": "1"}, "nothing answers there"),
        ({"database": ""}, "the user or the database is missing"),
    ],
)
def test_check_asks_a_database_server(run: Run, data: Path, change: dict[str, str], finding: str) -> None:
    server = servers.mariadb()
    parts = {"user": USER, "password": PASSWORD, "port": str(server.port), "database": DATABASE} | change
    url = "mysql://{user}:{password}@127.0.0.1:{port}/{database}".format(**parts)
    result = run("check", "--data-dir", str(data), database_url=url)
    assert finding in " ".join(result.stdout.split())
    assert parts["password"] not in result.stdout + result.stderr
    assert "Traceback" not in result.output


def test_check_waits_for_all_that_are_silent_at_once_and_names_each(run: Run, tmp_path: Path) -> None:
    with silent(5) as (database, bus, cache, registry, mail):
        result = run(
            "check",
            database_url=f"mysql://name:geheim@127.0.0.1:{database}/x",
            bus_url=f"amqp://name:geheim@127.0.0.1:{bus}/",
            cache_url=f"redis://:geheim@127.0.0.1:{cache}/0",
            registry_url=f"redis://:geheim@127.0.0.1:{registry}/0",
            smtp_url=f"smtp://name:geheim@127.0.0.1:{mail}",
            jwt_secret="a secret of more than thirty-two bytes",
        )
    failed = [line.split(":")[0] for line in result.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == [
        f"FAIL  {part}" for part in ("database", "bus_url", "cache_url", "registry_url", "mail")
    ]
    assert result.stdout.count("(from: environment)") == len(failed)
    assert "geheim" not in result.output


@pytest.mark.parametrize("command", ["up", "check"])
def test_a_database_that_is_not_ours_is_named_with_the_setting(
    run: Run, tmp_path: Path, command: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")
    options = ["--port", "0", "--admin-port", "0"] if command == "up" else []
    result = run(command, *options, database_url="sqlite:///theirs.db")
    assert result.exit_code == 1
    assert "YUANLIAN_DATABASE_URL (from: environment) sqlite:///theirs.db: " in result.output
    assert "it is not one of ours" in result.output
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


# --- what is not there ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [["tenants"], ["migrate"], ["dead-letters", "list"], ["dead-letters", "replay", "1"], ["check"]],
    ids=" ".join,
)
def test_a_data_directory_that_is_not_there_is_named_and_not_made(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    result = run(*command, "--data-dir", "nowhere")
    assert result.exit_code == 1
    assert "nowhere/yuanlian.db" in result.stdout + result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", [["tenants"], ["dead-letters", "list"], ["migrate"]], ids=" ".join)
def test_a_database_of_a_newer_release_is_refused(run: Run, data: Path, command: list[str]) -> None:
    with closing(sqlite3.connect(data / "yuanlian.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    result = run(*command, data_dir=str(data))
    assert result.exit_code == 1
    assert "9999" in result.stderr


@pytest.mark.parametrize("command", ["tenants", "migrate"])
def test_a_file_that_is_no_database_is_named(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "yuanlian.db").write_text("This was never a database. " * 10)
    result = run(command, data_dir="data")
    assert result.exit_code == 1
    assert "file is not a database" in result.stderr


def test_settings_that_cannot_be_read_are_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "yuanlian.toml").write_text("port = 'x")
    result = run("tenants")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("yuanlian: yuanlian.toml: ")
    (tmp_path / "yuanlian.toml").write_text("prot = 8080")
    assert "YUANLIAN_PROT: Extra inputs are not permitted" in run("tenants").stderr
