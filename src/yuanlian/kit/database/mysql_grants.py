"""What a user may do in a database, as ``SHOW GRANTS`` tells it."""

from __future__ import annotations

import re
from collections.abc import Iterable

SERVING = ("SELECT", "INSERT", "UPDATE", "DELETE")
MIGRATING = ("CREATE", "ALTER", "DROP", "INDEX")
"""There are no foreign keys, so REFERENCES is not among them."""

_NAME = r"(\*|`(?:[^`]|``)*`)"
_GRANT = re.compile(rf"GRANT (.+?) ON {_NAME}\.{_NAME} TO ")
_BESIDE_THE_POINT = re.compile(r"GRANT PROXY |GRANT .+? ON (PROCEDURE|FUNCTION|PACKAGE) ")


def lacking(grants: Iterable[str], database: str) -> list[str]:
    """Of ``SERVING`` and ``MIGRATING``, what none of the grants gives in the whole database.

    None of them where the grants leave it open: a role may give what they do not say, and so may single
    tables. Who is refused by mistake cannot start; who is let in by mistake hears it from the server.
    """
    given: set[str] = set()
    for grant in grants:
        found = _GRANT.match(grant)
        if found is None:
            if grant.startswith("GRANT ") and not _BESIDE_THE_POINT.match(grant):
                return []
            continue
        privileges, name, table = found.groups()
        if not _takes_in(name, database):
            continue
        if table != "*":
            return []
        given.update(word.strip() for word in privileges.upper().split(","))
    if given & {"ALL", "ALL PRIVILEGES"}:
        return []
    return [privilege for privilege in (*SERVING, *MIGRATING) if privilege not in given]


def _takes_in(name: str, database: str) -> bool:
    """``name``: of a grant, where ``%`` and ``_`` are wildcards unless there is a backslash before them."""
    if name == "*":
        return True
    parts = re.findall(r"\\.|.", name[1:-1].replace("``", "`"), re.DOTALL)
    wild = {"%": ".*", "_": "."}
    pattern = "".join(wild.get(part) or re.escape(part.removeprefix("\\") or part) for part in parts)
    return re.fullmatch(pattern, database, re.IGNORECASE | re.DOTALL) is not None
