"""What only a server does: it is elsewhere, it serves others too, and it goes away."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, text, update
from sqlalchemy.orm import Session
from tests.ports.cutting_proxy import Cut, CuttingProxy
from tests.ports.database_world import (
    NOTES,
    TOYS,
    Base,
    Meeting,
    Place,
    Toy,
    at_once,
    beside,
    closing,
    count_notes,
    note,
    notes,
)
from tests.support import servers
from tests.support.accounts import as_root, database_user
from tests.support.certificates import Authority
from tests.support.databases import open_database, using
from tests.support.silence import silent

from deploy.servers.mariadb import DATABASE, PASSWORD, USER, MariaDb
from yuanlian.kit.database import mysql
from yuanlian.kit.database.batching import Batcher
from yuanlian.kit.database.bulk import insert_rows
from yuanlian.kit.database.database import (
    DatabaseBusyError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    OutcomeUnknownError,
)
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.kit.database.mysql_server import Checked
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.database.url import database_from_url
from yuanlian.kit.errors import DependencyAwayError
from yuanlian.kit.tenancy.scope import across_tenants

Play = Callable[[Callable[[MysqlDatabase], Awaitable[None]]], None]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], MysqlDatabase]]:
    """The same database, as one process after the other opens it."""
    with using("mariadb"):
        first = _mysql(tmp_path)
        first.migrate(Base.metadata.create_all)
        yield lambda: _mysql(tmp_path)


def _mysql(folder: Path) -> MysqlDatabase:
    database = open_database(folder / "mysql.db")
    assert isinstance(database, MysqlDatabase)
    return database


@pytest.fixture
def play(opened: Callable[[], MysqlDatabase]) -> Play:
    def run(scenario: Callable[[MysqlDatabase], Awaitable[None]]) -> None:
        async def whole() -> None:
            database = opened()
            await closing(database, asyncio.wait_for(scenario(database), 60))

        asyncio.run(whole())

    return run


def _places(*keys: str) -> Callable[[Session], None]:
    return lambda session: session.add_all(Place(key=key, count=0) for key in keys)


def _counts(session: Session) -> dict[str, int]:
    return {place.key: place.count for place in session.scalars(select(Place))}


# -- many rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, 'says "hello"'])
def test_rows_go_in_binary_also_when_a_column_of_them_is_empty(play: Play, name: str | None) -> None:
    """They went as text, and their JSON with a backslash before every quotation mark."""

    def work(session: Session) -> int:
        before = _executions(session)
        insert_rows(session, TOYS, [("a", "ball", name), ("a", "kite", name)])
        insert_rows(session, NOTES, [(None, "one"), (None, "two")])
        return _executions(session) - before

    async def scenario(database: MysqlDatabase) -> None:
        with across_tenants("a test"):
            executed = await database.write(work)
            assert await database.read(lambda s: [*s.scalars(select(Toy.name))]) == [name, name]
        assert await database.read(notes) == ["one", "two"]
        assert executed == 2 + 1  # and the question itself

    play(scenario)


def _executions(session: Session) -> int:
    return int(session.execute(text("SHOW SESSION STATUS LIKE 'Com_stmt_execute'")).one()[1])


# -- others at the same rows --------------------------------------------------------------------


def test_two_works_that_lock_each_other_out_are_both_done_once(
    opened: Callable[[], MysqlDatabase],
) -> None:
    meeting = Meeting()
    runs: list[str] = []

    def add_to(first: str, then: str) -> Callable[[Session], None]:
        def work(session: Session) -> None:
            runs.append(first)
            for key in (first, then):
                session.execute(update(Place).where(Place.key == key).values(count=Place.count + 1))
                meeting.wait()

        return work

    async def fill() -> None:
        database = opened()
        await closing(database, database.write(_places("a", "b")))

    def adding(*keys: str) -> Callable[[], Awaitable[None]]:
        async def scene() -> None:
            database = opened()
            await closing(database, database.write(add_to(*keys)))

        return scene

    asyncio.run(fill())
    at_once(adding("a", "b"), adding("b", "a"))
    database = opened()
    assert beside(lambda: closing(database, database.read(_counts))) == {"a": 2, "b": 2}
    assert len(runs) == 3, "no deadlock came about"


def test_what_is_loaded_to_be_changed_is_not_changed_by_anybody_else_meanwhile(
    opened: Callable[[], MysqlDatabase],
) -> None:
    def count_one(session: Session) -> None:
        place = session.get_one(Place, "a")
        place.count = place.count + 1

    async def process() -> None:
        database = opened()
        await closing(database, asyncio.gather(*(database.write(count_one) for _ in range(25))))

    async def fill() -> None:
        database = opened()
        await closing(database, database.write(_places("a")))

    asyncio.run(fill())
    at_once(process, process, process)
    database = opened()
    assert beside(lambda: closing(database, database.read(_counts))) == {"a": 75}


def test_a_key_that_was_taken_after_the_look_is_found_by_another_look(
    opened: Callable[[], MysqlDatabase],
) -> None:
    meeting = Meeting()

    def make(session: Session) -> str:
        there = session.scalar(select(Place.key).where(Place.key == "a")) is not None
        meeting.wait()
        if there:
            return "found"
        session.execute(insert(Place), {"key": "a", "count": 0})
        return "made"

    def making() -> Callable[[], Awaitable[str]]:
        async def scene() -> str:
            database = opened()
            return await closing(database, database.write(make))

        return scene

    assert sorted(at_once(making(), making())) == ["found", "made"]


def test_that_others_hold_a_lock_is_no_outage() -> None:
    """Queues wait for the end of an outage: for one row's lock they would hold up all kindergartens."""
    assert issubclass(DatabaseUnavailableError, DependencyAwayError)
    assert not issubclass(DatabaseBusyError, DependencyAwayError)


def test_a_lock_that_is_not_given_back_is_not_waited_for_for_ever(
    opened: Callable[[], MysqlDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "PATIENCE_S", 0.1)

    def impatient(session: Session) -> None:
        session.connection().exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 0")
        session.execute(update(Place).values(count=7))

    async def blocked() -> None:
        database = opened()
        with pytest.raises(DatabaseBusyError):
            await closing(database, database.write(impatient))

    def holding(session: Session) -> None:
        session.get_one(Place, "a").count = 1
        session.flush()
        beside(blocked)

    async def scenario() -> None:
        database = opened()
        await database.write(_places("a"))
        await database.write(holding)
        assert await closing(database, database.read(_counts)) == {"a": 1}

    asyncio.run(scenario())


def test_one_blocked_work_does_not_fail_the_others_of_its_group(
    opened: Callable[[], MysqlDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "PATIENCE_S", 0.1)

    def impatient(session: Session) -> None:
        session.connection().exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 0")
        session.execute(update(Place).values(count=7))

    async def group() -> None:
        database = opened()
        works = [note("before"), impatient, note("after")]
        heard = await closing(database, asyncio.gather(*map(database.write, works), return_exceptions=True))
        assert heard[0] == "before"
        assert isinstance(heard[1], DatabaseBusyError)
        assert heard[2] == "after"

    def holding(session: Session) -> None:
        session.get_one(Place, "a").count = 1
        session.flush()
        beside(group)

    async def scenario() -> None:
        database = opened()
        await database.write(_places("a"))
        await database.write(holding)
        assert sorted(await closing(database, database.read(notes))) == ["after", "before"]

    asyncio.run(scenario())


# -- connections that end -------------------------------------------------------------------------


def _kill_connections(session: Session) -> None:
    connection = session.connection()
    mine = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = DATABASE()"
    for (number,) in connection.exec_driver_sql(mine).all():
        connection.exec_driver_sql(f"KILL {number}")


def test_connections_that_the_server_has_ended_are_replaced_unnoticed(
    play: Play, opened: Callable[[], MysqlDatabase]
) -> None:
    async def scenario(database: MysqlDatabase) -> None:
        for round_ in range(3):
            await asyncio.gather(*(database.read(count_notes) for _ in range(8)))
            await asyncio.gather(*(database.write(note(f"{round_}.{n}")) for n in range(8)))
            other = opened()
            await closing(other, other.read(_kill_connections))
        assert len(set(await database.read(notes))) == 24
        assert await database.read(count_notes) == 24

    play(scenario)


def test_a_connection_is_asked_only_after_a_long_rest(
    play: Play, monkeypatch: pytest.MonkeyPatch, opened: Callable[[], MysqlDatabase]
) -> None:
    """What stands between a read and its result: its statement, and the end of its transaction."""
    from yuanlian.kit.database import mysql_connections

    async def questions(database: MysqlDatabase, work: Callable[[Session], Any]) -> int:
        status = text("SHOW SESSION STATUS WHERE variable_name IN ('Questions', 'Com_admin_commands')")

        def count(session: Session) -> int:
            return sum(int(value) for _, value in session.execute(status))

        with across_tenants("test"):
            before = await database.read(count)
            await database.read(work)
            return await database.read(count) - before

    async def scenario() -> None:
        database = MysqlDatabase(_url_of(opened()), readers=1)
        await database.read(count_notes)
        alone = await questions(database, lambda s: None)
        assert await questions(database, count_notes) - alone == 2
        monkeypatch.setattr(mysql_connections, "IDLE_S", -1.0)
        assert await questions(database, count_notes) > alone + 2
        await database.close()

    asyncio.run(scenario())


def _url_of(database: MysqlDatabase) -> str:
    return database._url.render_as_string(hide_password=False)


def test_a_read_that_is_given_up_gives_its_connection_back(play: Play) -> None:
    def slow(session: Session) -> None:
        session.connection().exec_driver_sql("SELECT SLEEP(10)")

    async def scenario(database: MysqlDatabase) -> None:
        for _ in range(3):
            tasks = [asyncio.create_task(database.read(slow)) for _ in range(mysql.READERS)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await database.read(count_notes) == 0

    play(scenario)


def test_a_statement_that_takes_too_long_is_ended(play: Play) -> None:
    def slow(session: Session) -> None:
        session.connection().exec_driver_sql("SET STATEMENT max_statement_time=0.05 FOR SELECT SLEEP(10)")

    async def scenario(database: MysqlDatabase) -> None:
        for run in (database.read, database.write):
            with pytest.raises(DatabaseBusyError):
                await run(slow)
        await database.write(note("afterwards"))
        assert await database.read(notes) == ["afterwards"]

    play(scenario)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("works", [1, 3])
def test_what_was_lost_before_its_commit_is_stored_by_another_try(
    opened: Callable[[], MysqlDatabase], when: Cut, works: int
) -> None:
    async def scenario(database: MysqlDatabase, proxy: CuttingProxy) -> None:
        proxy.cut(b"the cut one", when)
        sent = ["the cut one", *(f"beside it {n}" for n in range(works - 1))]
        assert await asyncio.gather(*(database.write(note(t)) for t in sent)) == sent
        assert proxy.cuts == 1
        assert sorted(await database.read(notes)) == sorted(sent)

    _through_proxy(opened, scenario)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("works", [1, 3])
def test_what_was_lost_in_its_commit_is_not_tried_again_and_its_caller_knows(
    opened: Callable[[], MysqlDatabase], when: Cut, works: int
) -> None:
    """Cut before the server hears of the COMMIT, nothing is stored; after it, everything is. From here
    the two look the same."""
    runs: Counter[str] = Counter()

    def counted(name: str) -> Callable[[Session], None]:
        def work(session: Session) -> None:
            runs[name] += 1
            note(name)(session)

        return work

    async def scenario(database: MysqlDatabase, proxy: CuttingProxy) -> None:
        proxy.cut(b"COMMIT", when)
        sent = [f"note {n}" for n in range(works)]
        heard = await asyncio.gather(*(database.write(counted(t)) for t in sent), return_exceptions=True)
        assert [type(answer) for answer in heard] == [OutcomeUnknownError] * works
        assert proxy.cuts == 1
        assert runs == dict.fromkeys(sent, 1)
        assert sorted(await database.read(notes)) == ([] if when == "before" else sent)
        await database.write(note("next"))

    _through_proxy(opened, scenario)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("works", [1, 3])
def test_what_recognises_itself_is_tried_again_after_its_commit_was_lost(
    opened: Callable[[], MysqlDatabase], when: Cut, works: int
) -> None:
    def once(key: str) -> Callable[[Session], str]:
        def work(session: Session) -> str:
            if session.scalar(select(Place.key).where(Place.key == key)) is None:
                session.execute(insert(Place), {"key": key, "count": 0})
                note(key)(session)
            return key

        return work

    async def scenario(database: MysqlDatabase, proxy: CuttingProxy) -> None:
        proxy.cut(b"COMMIT", when)
        sent = [f"key {n}" for n in range(works)]
        heard = await asyncio.gather(
            database.write(note("not repeatable")) if works > 1 else asyncio.sleep(0),
            *(database.write(once(key), repeatable=True) for key in sent),
            return_exceptions=True,
        )
        assert proxy.cuts == 1
        assert heard[1:] == sent
        assert isinstance(heard[0], OutcomeUnknownError) == (works > 1)
        stored = Counter(await database.read(notes))
        assert stored.pop("not repeatable", 0) == (when == "after" and works > 1)
        assert stored == dict.fromkeys(sent, 1)

    _through_proxy(opened, scenario)


def test_a_batch_that_the_database_cannot_take_is_not_tried_item_by_item() -> None:
    calls: list[int] = []

    async def store(items: Sequence[int]) -> Sequence[int | Exception]:
        calls.append(len(items))
        raise DatabaseUnavailableError

    async def scenario() -> None:
        batcher: Batcher[int, int] = Batcher(store)
        heard = await asyncio.gather(*map(batcher.submit, range(5)), return_exceptions=True)
        assert [type(answer) for answer in heard] == [DatabaseUnavailableError] * 5
        assert calls == [5]

    asyncio.run(scenario())


def _through_proxy(
    opened: Callable[[], MysqlDatabase],
    scenario: Callable[[MysqlDatabase, CuttingProxy], Awaitable[None]],
) -> None:
    async def whole() -> None:
        direct = opened()._url
        proxy = CuttingProxy(direct.port or 0)
        through = direct.set(port=await proxy.start()).render_as_string(hide_password=False)
        database = MysqlDatabase(through)
        try:
            # The statements have been prepared and the connections are open when the cut comes.
            await asyncio.gather(*(database.write(note("warm")) for _ in range(20)))
            await database.write(lambda s: s.execute(text("DELETE FROM notes")))
            await closing(database, asyncio.wait_for(scenario(database, proxy), 30))
        finally:
            await proxy.close()

    with across_tenants("test"):
        asyncio.run(whole())


# -- the server goes away ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    servers.need(MariaDb)
    server = MariaDb(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def server(own_server: MariaDb) -> MariaDb:
    """Running, with empty tables; a test may do anything to it."""
    if own_server.process is None:
        own_server.start()
    database = MysqlDatabase(own_server.url)
    database.migrate(Base.metadata.drop_all)
    database.migrate(Base.metadata.create_all)
    return own_server


@pytest.mark.parametrize("end", [MariaDb.kill, MariaDb.stop], ids=["kill -9", "restart"])
def test_a_stream_of_writes_survives_its_server(server: MariaDb, end: Callable[[MariaDb], None]) -> None:
    """Nothing acknowledged is lost, nothing at all is doubled, and after it everything goes on."""

    stored: set[str] = set()
    unknown: set[str] = set()
    done = asyncio.Event()

    async def stream(database: MysqlDatabase, name: int) -> None:
        numbers = itertools.count()
        while not done.is_set():
            key = f"{name}.{next(numbers)}"
            try:
                stored.add(await database.write(note(key)))
            except OutcomeUnknownError:
                unknown.add(key)
            except DatabaseUnavailableError:
                await asyncio.sleep(0.05)

    async def flowing() -> None:
        wanted = len(stored) + 50
        while len(stored) < wanted:
            await asyncio.sleep(0.005)

    async def scenario() -> None:
        database = MysqlDatabase(server.url)
        streams = [asyncio.create_task(stream(database, name)) for name in range(16)]
        async with asyncio.timeout(80):
            for _ in range(3):
                await flowing()
                await asyncio.to_thread(end, server)
                await asyncio.to_thread(server.start)
            await flowing()
            done.set()
            await asyncio.gather(*streams)
        found = Counter(await database.read(notes))
        await database.close()
        assert stored <= set(found), sorted(stored - set(found))
        assert max(found.values()) == 1
        assert set(found) <= stored | unknown

    asyncio.run(scenario())


def test_while_the_server_is_away_callers_hear_so_and_afterwards_nothing(
    server: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "PATIENCE_S", 0.3)

    async def scenario() -> None:
        database = MysqlDatabase(server.url)
        await database.write(note("before"))
        await asyncio.to_thread(server.kill)
        heard = await asyncio.gather(
            *(database.write(note("lost")) for _ in range(5)),
            *(database.read(count_notes) for _ in range(20)),
            database.ping(),
            return_exceptions=True,
        )
        assert {type(answer) for answer in heard} == {DatabaseUnavailableError}
        monkeypatch.undo()
        await asyncio.to_thread(server.start)
        await database.write(note("after"))
        assert await database.read(notes) == ["before", "after"]
        await database.close()

    asyncio.run(scenario())


def test_a_server_that_stands_still_is_not_waited_for_for_ever(
    server: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def scenario() -> None:
        database = MysqlDatabase(server.url)
        await database.write(note("before"))
        await database.read(count_notes)
        server.pause()
        with monkeypatch.context() as hurried:
            hurried.setattr(mysql, "WHOLE_S", 0.5)
            hurried.setattr(mysql, "PATIENCE_S", 0.2)
            answers = await asyncio.gather(
                database.write(note("lost")), database.read(count_notes), return_exceptions=True
            )
        server.resume()
        for answer in answers:
            assert isinstance(answer, DatabaseUnavailableError | OutcomeUnknownError)
        await database.write(note("after"))
        assert "after" in await database.read(notes)
        await database.close()

    asyncio.run(scenario())


def test_over_tls_the_server_must_be_who_it_says(tmp_path: Path) -> None:
    servers.need(MariaDb)
    authority, other = Authority(), Authority()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.write(cert, "localhost", key=key)
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    ours.write_bytes(authority.certificate)
    theirs.write_bytes(other.certificate)

    class TlsMariaDb(MariaDb):
        def command(self) -> list[str]:
            tls = [f"--ssl-cert={cert}", f"--ssl-key={key}", "--require-secure-transport=ON"]
            return [*super().command(), *tls]

    server = TlsMariaDb(tmp_path / "server")
    server.start()
    try:
        url = server.url.replace("127.0.0.1", "localhost")
        assert _checked(f"{url}?ssl_ca={ours}").version.startswith("MariaDB")
        for refused, why in (
            (url, "wants TLS"),
            (f"{url}?ssl=true", "certificate is not trusted"),
            (f"{url}?ssl_ca={theirs}", "certificate is not trusted"),
            (f"{server.url}?ssl_ca={ours}", "certificate is not trusted: .*mismatch"),
        ):
            with pytest.raises(DatabaseRefusedError, match=why):
                _checked(refused)
    finally:
        server.stop()


# -- settings that are wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wrong-secret"}, "refuses the password"),
        ({"username": "nobody"}, "refuses the password"),
        ({"database": "elsewhere"}, "may not use this database"),
        ({"database": "yuanlian_missing"}, "no such database"),
        ({"port": 1}, "nothing answers there"),
    ],
)
def test_what_is_wrong_is_said_without_a_secret(change: dict[str, Any], said: str) -> None:
    parts: dict[str, Any] = {"username": USER, "password": PASSWORD, "database": DATABASE}
    parts |= {"port": servers.mariadb().port, **change}
    url = "mysql://{username}:{password}@127.0.0.1:{port}/{database}".format(**parts)
    database = MysqlDatabase(url)
    for ask in (lambda: _checked(url), lambda: database.migrate(lambda connection: None)):
        with pytest.raises(DatabaseRefusedError) as refused:
            ask()
        assert said in str(refused.value)
        assert parts["password"] not in f"{refused.value} {database}"


def test_a_server_that_is_right_says_what_it_is() -> None:
    checked = _checked(servers.mariadb().url)
    assert checked.version.startswith("MariaDB 1")
    assert (checked.warnings, checked.lacks, checked.found) == ([], [], DATABASE)


def test_a_setting_that_breaks_a_promise_is_named(server: MariaDb) -> None:
    as_root(server, "SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    warnings = _checked(server.url).warnings
    assert [warning.split(" ")[0] for warning in warnings] == ["innodb_flush_log_at_trx_commit"]


@pytest.mark.parametrize(
    ("grants", "lacks"),
    [
        (["SELECT ON yuanlian.*"], ["INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX"]),
        (["SELECT, INSERT, UPDATE, DELETE ON yuanlian.*"], ["CREATE", "ALTER", "DROP", "INDEX"]),
        (["SELECT, INSERT, UPDATE, DELETE ON yuanlian.*", "CREATE, ALTER, DROP, INDEX ON *.*"], []),
        (["ALL ON yuanlian.*"], []),
        (["ALL ON `yuanl%`.*"], []),
        (["ALL ON *.*"], []),
        (["some_role"], []),
    ],
)
def test_the_privileges_that_a_user_lacks_are_known(grants: list[str], lacks: list[str]) -> None:
    server = servers.mariadb()
    as_root(server, "CREATE ROLE IF NOT EXISTS some_role", "GRANT ALL ON yuanlian.* TO some_role")
    url = database_user(server, "half", DATABASE, *grants)
    if grants == ["some_role"]:
        as_root(server, "SET DEFAULT ROLE some_role FOR half@'127.0.0.1'")
    assert _checked(url).lacks == lacks


def test_a_check_waits_for_no_lock_and_cannot_write(opened: Callable[[], MysqlDatabase]) -> None:
    """It took the lock of migrations, for which it waited a minute while one was under way."""
    database = opened()
    url = database._url.render_as_string(hide_password=False)

    def meanwhile(connection: Connection) -> str:
        return beside(lambda: database.check(_database_of)).found

    assert database.migrate(meanwhile) == database._url.database
    with pytest.raises(DatabaseRefusedError, match="error 1792"):
        asyncio.run(MysqlDatabase(url).check(lambda c: c.execute(insert(Place), {"key": "a", "count": 0})))


def test_a_check_says_so_when_nobody_answers() -> None:
    with silent(1) as [port], pytest.raises(DatabaseRefusedError, match="no answer"):
        asyncio.run(MysqlDatabase(f"mysql://u:p@127.0.0.1:{port}/d").check(_database_of, within_s=0.2))


def test_a_schema_that_another_process_does_not_let_go_of_is_not_waited_for_for_ever(
    opened: Callable[[], MysqlDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start ended with a traceback then."""
    monkeypatch.setattr(mysql, "LOCK_S", 0)
    database = opened()

    def second(_: Connection) -> None:
        with pytest.raises(DatabaseRefusedError, match="another process has been changing the schema"):
            opened().migrate(lambda connection: None)

    database.migrate(second)


def _checked(url: str) -> Checked[str]:
    return asyncio.run(MysqlDatabase(url).check(_database_of))


def _database_of(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT DATABASE()").scalar())


@pytest.mark.parametrize(
    ("said", "older"),
    [("10.6.20-MariaDB-log", "10.6.20"), ("5.5.5-10.5.1-MariaDB", "10.5.1"), ("8.0.11", "8.0.11")],
)
def test_a_server_that_is_too_old_is_refused(said: str, older: str) -> None:
    from sqlalchemy import create_engine

    from yuanlian.kit.database.mysql_server import version_of

    engine = create_engine("sqlite://")

    @event.listens_for(engine, "connect")
    def _pretend(connection: Any, _record: Any) -> None:
        connection.create_function("VERSION", 0, lambda: said)

    with engine.connect() as connection, pytest.raises(DatabaseRefusedError, match=f"{older} is too old"):
        version_of(connection)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:secret-word@h/d", "neither"),
        ("mysql+pymysql://u:secret-word@h/d", "the driver is asyncmy"),
        ("mysql://u:secret-word@h", "database is missing"),
        ("mysql://h/d", "user or the database is missing"),
        ("mysql://u:secret-word@h:port/d", "not a database URL"),
        ("mysql://u:secret-word@h/d?local_infile=1", "unknown option local_infile"),
        ("sqlite:/path", "is not"),
        ("sqlite://host/path", "is not"),
        ("", "neither"),
    ],
)
def test_a_url_that_cannot_be_followed_is_refused_without_its_secret(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        database_from_url(url)
    assert "secret-word" not in str(refused.value)


def test_a_url_chooses_the_adapter(tmp_path: Path) -> None:
    for scheme in ("mysql", "mariadb", "mysql+asyncmy", "mariadb+asyncmy"):
        assert isinstance(database_from_url(f"{scheme}://u:p@h:3306/d"), MysqlDatabase)
    for scheme in ("sqlite", "sqlite+aiosqlite"):
        database = database_from_url(f"{scheme}:///{tmp_path}/x.db")
        assert isinstance(database, SqliteDatabase)
        asyncio.run(database.close())
