"""``.eml`` files instead of a mail server: every mail program opens them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

from yuanlian.services.notification.mailer import SENT, BadAddressError, Email, Outcome, compose

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class EmlMailer:
    """Writes each letter into ``folder``. A file appears whole or not at all, and a letter sent again
    takes the place of the first. Not synced: a power cut may lose the last letters. Only the owner
    may read them: they are about children."""

    def __init__(self, folder: Path, sender: str = "noreply@yuanlian.invalid") -> None:
        self._folder = folder
        self._sender = sender

    async def send(self, emails: Sequence[Email]) -> Sequence[Outcome]:
        return await asyncio.to_thread(lambda: [self._write(email) for email in emails])

    def _write(self, email: Email) -> Outcome:
        name = _UNSAFE.sub("_", email.id)[:120]
        unfinished = self._folder / f".{name}.part"
        try:
            content = compose(email, self._sender).as_bytes()
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(unfinished, "wb", opener=_private) as file:
                file.write(content)
            os.replace(unfinished, self._folder / f"{name}.eml")
        except BadAddressError:
            return Outcome("refused", "invalid address")
        except OSError as error:
            return Outcome("deferred", type(error).__name__)
        return SENT


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
