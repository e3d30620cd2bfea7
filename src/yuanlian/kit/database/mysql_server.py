"""What MySQL and MariaDB say of themselves, and what the numbers of their errors mean."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from yuanlian.kit.database.database import DatabaseRefusedError
from yuanlian.kit.database.mysql_grants import lacking

T = TypeVar("T")

OLDEST_MARIADB = (10, 11)
OLDEST_MYSQL = (8, 0, 20)

DUPLICATE = 1062
DEADLOCK, LOCK_WAIT = 1213, 1205
CONFLICTS = frozenset({DEADLOCK, LOCK_WAIT, 1020, 3572})
"""The server has given this transaction up for another one; a new one may succeed."""
AWAY = frozenset({2002, 2003, 2006, 2013, 2055, 1040, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1927, 4031})
"""No server, no answer, a closed connection, or no room for one more."""
TOO_LONG = frozenset({1969, 3024, 1317})
"""A statement took longer than it may, or was killed."""

_REFUSALS = {
    1045: "the server does not know this user, refuses the password, or wants TLS (?ssl=true)",
    1698: "the server does not know this user or refuses the password",
    1044: "the user may not use this database: GRANT ALL ON the database TO the user",
    1049: "there is no such database on the server: CREATE DATABASE first",
    1142: "the user lacks a privilege: GRANT ALL ON the database TO the user",
    1040: "the server has no room for more connections (max_connections)",
    3159: "the server wants TLS (?ssl=true)",
    1130: "the server does not accept connections from this machine",
    2003: "nothing answers there: is the server running, are host and port right?",
    2013: "the connection ended before the server had answered",
}


@dataclass(frozen=True, slots=True)
class Checked(Generic[T]):
    """``version``: of the server, with its name. ``warnings``: settings under which promises do not hold.
    ``lacks``: privileges that the user has not, as ``lacking`` has them."""

    version: str
    warnings: Sequence[str]
    lacks: Sequence[str]
    found: T


def checked(connection: Connection, database: str, read: Callable[[Connection], T]) -> Checked[T]:
    """Raises:
    DatabaseRefusedError: the server is too old.
    """
    return Checked(
        version=version_of(connection),
        warnings=list(warnings_of(connection)),
        lacks=lacking(connection.exec_driver_sql("SHOW GRANTS").scalars(), database),
        found=read(connection),
    )


def code_of(error: BaseException | None) -> int:
    """The server's (1000 to 1999, 3000 and up) or the driver's (2000 to 2999) number; 0 without one."""
    original = error.orig if isinstance(error, DBAPIError) else error
    arguments = getattr(original, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def is_away(error: BaseException | None) -> bool:
    return (isinstance(error, DBAPIError) and error.connection_invalidated) or code_of(error) in AWAY


def address(url: URL) -> str:
    """Without the password."""
    return f"{url.username}@{url.host or 'localhost'}:{url.port or 3306}/{url.database}"


def is_refusal(error: BaseException) -> bool:
    return code_of(error) in _REFUSALS


def refusal(error: BaseException, url: URL) -> DatabaseRefusedError:
    """What an operator is told; the server's own words may hold what somebody typed."""
    why = _REFUSALS.get(code_of(error), f"error {code_of(error)}" if code_of(error) else "no answer")
    untrusted = _certificate_error(error)
    if untrusted is not None:
        why = f"the server's certificate is not trusted: {untrusted.verify_message}"
    return DatabaseRefusedError(f"{address(url)}: {why}")


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def version_of(connection: Connection) -> str:
    """Raises:
    DatabaseRefusedError: the server is older than what the platform is tested with.
    """
    said = str(connection.exec_driver_sql("SELECT VERSION()").scalar())
    mariadb = "mariadb" in said.lower()
    name, oldest = ("MariaDB", OLDEST_MARIADB) if mariadb else ("MySQL", OLDEST_MYSQL)
    number = said.removeprefix("5.5.5-").partition("-")[0]
    parts = tuple(int(part) for part in number.split(".") if part.isdigit())
    if parts < oldest:
        raise DatabaseRefusedError(f"{name} {number} is too old, {'.'.join(map(str, oldest))} is the oldest")
    return f"{name} {number}"


def warnings_of(connection: Connection) -> Iterator[str]:
    """Settings of the server under which a promise of the platform does not hold."""
    flush = connection.exec_driver_sql("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit").scalar()
    if flush != 1:
        yield f"innodb_flush_log_at_trx_commit is {flush}, not 1: a crash loses acknowledged writes"
    logged, synced = connection.exec_driver_sql("SELECT @@GLOBAL.log_bin, @@GLOBAL.sync_binlog").one()
    if logged and synced != 1:
        yield f"sync_binlog is {synced}, not 1: after a crash replicas may differ from this server"
    packet = connection.exec_driver_sql("SELECT @@GLOBAL.max_allowed_packet").scalar() or 0
    if packet < 16 << 20:
        yield f"max_allowed_packet is {packet}, less than 16 MiB: long messages are refused"


def collation_of(connection: Connection) -> str:
    """Compares code points, like SQLite, and does not take ``a`` for ``a `` (a client chooses event ids)."""
    maria = "mariadb" in str(connection.exec_driver_sql("SELECT VERSION()").scalar()).lower()
    return "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"


def use_our_collation(connection: Connection) -> None:
    """New tables take the database's collation; a database with tables keeps its own."""
    collation = collation_of(connection)
    tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"
    different = connection.exec_driver_sql("SELECT @@collation_database").scalar() != collation
    if different and connection.exec_driver_sql(tables).scalar() == 0:
        connection.exec_driver_sql(f"ALTER DATABASE CHARACTER SET utf8mb4 COLLATE {collation}")
    connection.commit()
