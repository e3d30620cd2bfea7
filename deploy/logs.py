"""Log files that processes append to by themselves, kept from growing without bound.

The files are opened with O_APPEND by those who write, so a file that is cut to nothing goes on at its
beginning. No process has to be told, and none depends on the one that rotates: while that is gone, logs
only grow.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LIMIT = 50 * 1024 * 1024  # bytes
KEPT = 3  # older ones beside the current: .1 is the youngest


def set_aside(log: Path) -> None:
    """Renames what an earlier run left to ``.1``. Only while nobody writes to it.

    Raises:
        OSError: a file could not be renamed.
    """
    if log.exists() and log.stat().st_size:
        _age(log)
        log.replace(_older(log, 1))


def cut(log: Path, limit: int = LIMIT) -> bool:
    """Copies a log larger than ``limit`` bytes to ``.1`` and empties it; whether it did.

    What is written between the end of the copy and the emptying is lost, a few lines at the most.

    Raises:
        OSError: no room for the copy, for example; the log is as it was.
    """
    if not log.exists() or log.stat().st_size <= limit:
        return False
    _older(log, KEPT).unlink(missing_ok=True)  # first of all, for it makes room
    copy = _older(log, 0)
    try:
        with log.open("rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1024 * 1024)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    _age(log)
    copy.replace(_older(log, 1))
    os.truncate(log, 0)
    return True


def _age(log: Path) -> None:
    """Makes ``.1`` free; the oldest goes."""
    for number in range(KEPT - 1, 0, -1):
        if _older(log, number).exists():
            _older(log, number).replace(_older(log, number + 1))


def _older(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
