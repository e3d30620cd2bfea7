"""Passwords: Argon2id off the event loop, and what makes one acceptable."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from yuanlian.kit.errors import FieldError, ValidationError
from yuanlian.kit.i18n import Text

SHORTEST, LONGEST = 8, 128
CONCURRENT = 2
"""Hashing wants a core and its memory for tens of milliseconds; more at once would starve requests."""


@dataclass(frozen=True, slots=True)
class Argon2Parameters:
    """OWASP Password Storage Cheat Sheet, Argon2id: 19 MiB, two passes, one lane."""

    time_cost: int = 2
    memory_kib: int = 19 * 1024
    parallelism: int = 1

    def hasher(self) -> PasswordHasher:
        return PasswordHasher(self.time_cost, self.memory_kib, self.parallelism)


def hash_password(password: str, parameters: Argon2Parameters | None = None) -> str:
    """Slow by design: never on the event loop, never inside a transaction."""
    return (parameters or Argon2Parameters()).hasher().hash(password)


class Passwords:
    """Hashes and verifies, at most ``CONCURRENT`` at a time, in threads."""

    def __init__(self, parameters: Argon2Parameters | None = None) -> None:
        self._hasher = (parameters or Argon2Parameters()).hasher()
        self._turn = asyncio.Semaphore(CONCURRENT)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` is the one ``stored`` was made of. Without an account (None) it
        takes as long, so that time does not tell which usernames exist."""
        if stored is None:
            if self._nobody is None:
                self._nobody = await self.hash(secrets.token_urlsafe())
            await self._matches(self._nobody, password)
            return False
        return await self._matches(stored, password)

    def outdated(self, stored: str) -> bool:
        """Whether it was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    async def _matches(self, stored: str, password: str) -> bool:
        async with self._turn:
            return await asyncio.to_thread(self._verify, stored, password)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def check_policy(field: str, password: str, username: str) -> None:
    """NIST SP 800-63B §5.1.1.2: length counts, composition rules do not.

    Raises:
        ValidationError: on ``field``.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise _refused(
            field,
            f"密码长度应为 {SHORTEST} 到 {LONGEST} 个字符",
            f"must have {SHORTEST} to {LONGEST} characters",
        )
    if username.casefold() in (password.casefold(), password.casefold()[::-1]):
        raise _refused(field, "密码不能与用户名相同", "must not be the username")
    if len(set(password)) < 3:
        raise _refused(field, "密码过于简单", "is too simple")


def _refused(field: str, zh: str, en: str) -> ValidationError:
    return ValidationError(details=[FieldError(field, Text(zh, en))])
