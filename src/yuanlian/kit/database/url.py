"""Which adapter a database URL asks for. The drivers of the other ones are not even imported."""

from __future__ import annotations

from pathlib import Path

from yuanlian.kit.database.database import ManagedDatabase


def database_from_url(url: str) -> ManagedDatabase:
    """``sqlite:///PATH`` (``sqlite+aiosqlite:///`` means the same) or ``mysql://USER:PASSWORD@HOST/DATABASE``.

    Raises:
        ValueError: it is neither; without what may be a password.
    """
    scheme, separator, rest = url.partition("://")
    shown = f"{scheme}:…" if separator else "a text without a scheme"
    technology = scheme.partition("+")[0].partition(":")[0]
    if technology == "sqlite":
        if scheme not in ("sqlite", "sqlite+aiosqlite") or not rest.startswith("/") or rest == "/":
            raise ValueError(f"{shown} is not sqlite:///PATH")
        from yuanlian.kit.database.sqlite import SqliteDatabase  # only what is used

        return SqliteDatabase(Path(rest.removeprefix("/")))
    if technology in ("mysql", "mariadb"):
        from yuanlian.kit.database.mysql import MysqlDatabase  # only what is used

        return MysqlDatabase(url)
    raise ValueError(f"{shown} is neither sqlite:///PATH nor mysql://USER:PASSWORD@HOST/DATABASE")
