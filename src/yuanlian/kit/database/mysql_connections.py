"""Connections to MySQL and MariaDB: where to, what each is told first, and how they rest in a pool.

The two servers name a few variables differently. Each reads only its own comments: ``/*M! … */`` is
MariaDB's, and ``/*!80000 … */`` is MySQL's (MariaDB skips those numbered 50700 to 99999).
"""

from __future__ import annotations

import logging
import ssl
import time
from typing import Any, Literal

from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

Isolation = Literal["READ-COMMITTED", "REPEATABLE-READ"]

STATEMENT_S = 15
LOCK_WAIT_S = 5
CONNECT_S = 5.0
IDLE_S = 10.0
"""A connection that rested for longer is asked whether it still lives."""
RECYCLE_S = 1800
STATEMENTS = 128
"""Prepared per connection; the server's default is 16,382 for all connections together."""

SQL_MODE = (
    "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
    "NO_ENGINE_SUBSTITUTION,ONLY_FULL_GROUP_BY"
)


def mysql_url(url: str) -> URL:
    """Raises:
    ValueError: it is not ``mysql://USER:PASSWORD@HOST[:PORT]/DATABASE``; ``mariadb://``,
        ``mysql+asyncmy://`` and ``mariadb+asyncmy://`` mean the same. Of options there are ``ssl=true``
        (verified by the machine's authorities), ``ssl_ca=FILE`` and ``unix_socket=FILE``.
    """
    wanted = "mysql+asyncmy://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(f"not a database URL, expected {wanted}") from None
    if parsed.drivername.split("+")[0] not in ("mysql", "mariadb"):
        raise ValueError(f"{parsed.drivername}:… is not {wanted}")
    if parsed.drivername.partition("+")[2] not in ("", "asyncmy"):
        raise ValueError(f"{parsed.drivername}: the driver is asyncmy, expected {wanted}")
    if not parsed.database or not parsed.username:
        raise ValueError(f"the user or the database is missing, expected {wanted}")
    unknown = set(parsed.query) - {"ssl", "ssl_ca", "unix_socket"}
    if unknown:
        raise ValueError(f"unknown option {sorted(unknown)[0]}: there are ssl, ssl_ca and unix_socket")
    return parsed.set(drivername="mysql+asyncmy")


def first_words(isolation: Isolation, *, read_only: bool, statement_s: int = STATEMENT_S) -> str:
    """One statement for all variables of a session.

    Times are UTC, wrong values are errors, and the literals of a statement compare as the columns do. A table
    that is being altered is waited for as long as a statement may take, not for the server's day.
    """
    only = int(read_only)
    return (
        f"SET SESSION time_zone='+00:00', sql_mode='{SQL_MODE}', "
        f"innodb_lock_wait_timeout={LOCK_WAIT_S}, lock_wait_timeout={statement_s}, "
        "collation_connection=@@collation_database"
        f" /*M! , tx_isolation='{isolation}', tx_read_only={only}, max_statement_time={statement_s} */"
        f" /*!80000 , transaction_isolation='{isolation}', transaction_read_only={only},"
        f" max_execution_time={statement_s * 1000} */"
    )


def mysql_engine(
    url: URL,
    isolation: Isolation,
    *,
    read_only: bool = False,
    pool_size: int = 0,
    statement_s: int = STATEMENT_S,
) -> Engine:
    """To be used under ``greenlet_spawn``. ``pool_size``: 0 for connections that end with their use.

    Nothing is sent when a connection goes back: its transaction has ended with its session.
    """
    pool: dict[str, Any] = {"poolclass": NullPool}
    if pool_size:
        pool = {"pool_size": pool_size, "max_overflow": 0, "pool_recycle": RECYCLE_S}
    # The driver prints the server's warnings; what matters is an error in strict mode.
    logging.getLogger("asyncmy").setLevel(logging.ERROR)
    engine = create_async_engine(
        url.set(query={}),
        connect_args={
            **_network(url),
            "init_command": first_words(isolation, read_only=read_only, statement_s=statement_s),
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_S,
            "stmt_cache_size": STATEMENTS,
            "program_name": "yuanlian",
        },
        pool_reset_on_return=None,
        **pool,
    ).sync_engine
    # A savepoint ends with its transaction; releasing it sooner would cost a question per work.
    setattr(engine.dialect, "do_release_savepoint", _nothing)  # noqa: B010 - not meant to be typed
    event.listen(engine, "checkin", _begin_rest)
    event.listen(engine, "checkout", _ask_after_rest)
    return engine


def _network(url: URL) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if "unix_socket" in url.query:
        arguments["unix_socket"] = url.query["unix_socket"]
    if "ssl_ca" in url.query or url.query.get("ssl") == "true":
        authorities = url.query.get("ssl_ca")
        arguments["ssl"] = ssl.create_default_context(cafile=str(authorities) if authorities else None)
    return arguments


def _nothing(_connection: Any, _name: str) -> None:
    pass


def _begin_rest(_connection: Any, record: Any) -> None:
    record.info["resting_since"] = time.monotonic()


def _ask_after_rest(connection: Any, record: Any, _proxy: Any) -> None:
    since = record.info.get("resting_since")
    if since is None or time.monotonic() - since < IDLE_S:
        return
    try:
        connection.ping()
    except Exception as error:
        raise DisconnectionError from error  # the pool opens another one
