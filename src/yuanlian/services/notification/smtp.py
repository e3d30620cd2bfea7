"""E-mail over SMTP (RFC 5321) with aiosmtplib."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from yuanlian.services.notification.mailer import SENT, BadAddressError, Email, Outcome, compose

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"smtp": 587, "smtps": 465}
_OUR_FAULT = (530, 534, 535, 538)
"""Replies about our own credentials (RFC 4954 §6): the operator mends them, the letter is fine."""


class SmtpMailer:
    """``url``: ``smtp[s]://[user:password@]host[:port][?from=address]``; percent-encode what needs it.

    ``smtps`` speaks TLS from the start; ``smtp`` upgrades when the server offers STARTTLS, and
    must upgrade before a password leaves this machine. Certificates are verified, against the
    system's authorities or ``trust``. ``timeout``: seconds for each command. One connection serves
    one call of ``send``.

    Raises:
        ValueError: the URL is not one of these.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, trust: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("an SMTP URL is smtp://host[:port] or smtps://host[:port]")
        self._host = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        self._tls = parts.scheme == "smtps"
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._timeout = timeout
        self._trust = trust
        self.sender = parse_qs(parts.query).get("from", [self._default_sender()])[0]

    def _default_sender(self) -> str:
        return self._user if self._user and "@" in self._user else f"noreply@{self._host}"

    def _connection(self) -> SMTP:
        exposed = self._user is not None and self._host not in _LOOPBACK
        return SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls,
            start_tls=False if self._tls else exposed or None,  # None: when offered
            tls_context=self._trust,
            timeout=self._timeout,
        )

    async def ping(self) -> None:
        """Connects, as for sending, and goes again.

        Raises:
            ConnectionError: the server does not let us in; with the reason.
        """
        try:
            async with self._connection():
                pass
        except (SMTPException, OSError) as error:
            raise ConnectionError(_reason(error)) from None

    async def send(self, emails: Sequence[Email]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        try:
            async with self._connection() as connection:
                outcomes = [await self._send_one(connection, email) for email in emails]
        except (SMTPException, OSError, TimeoutError) as error:
            # A connection that only failed to say goodbye has sent them all.
            return outcomes or [Outcome("deferred", _reason(error))] * len(emails)
        return outcomes

    async def _send_one(self, connection: SMTP, email: Email) -> Outcome:
        try:
            await connection.send_message(compose(email, self.sender), sender=self.sender)
        except BadAddressError:
            return Outcome("refused", "invalid address")
        except SMTPRecipientsRefused as error:
            return _refusal(error.recipients[0].code, error)
        except SMTPResponseException as error:
            return _refusal(error.code, error)
        except (SMTPException, OSError, TimeoutError) as error:
            return Outcome("deferred", _reason(error))
        return SENT


def _refusal(code: int, error: SMTPException) -> Outcome:
    """RFC 5321 §4.2.1: 5yz is permanent, 4yz is worth another attempt."""
    ours = code in _OUR_FAULT or isinstance(error, SMTPSenderRefused)
    permanent = 500 <= code < 600 and not ours
    return Outcome("refused" if permanent else "deferred", f"{code} {type(error).__name__}")


def _reason(error: Exception) -> str:
    code = getattr(error, "code", None)
    return f"{code} {type(error).__name__}" if isinstance(code, int) else type(error).__name__
