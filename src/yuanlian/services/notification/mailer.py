"""The way out for e-mail, as the service sees it, and the form every letter takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal, NamedTuple, Protocol

from yuanlian.services.notification.templates import one_line


class Email(NamedTuple):
    """``id``: the bus message's, so that a redelivery is recognisably the same letter.
    ``written_at``: epoch ms."""

    id: str
    to: str
    subject: str
    text: str
    html: str
    written_at: int


class Outcome(NamedTuple):
    """``refused``: this letter will never be taken. ``deferred``: another attempt may succeed."""

    result: Literal["sent", "refused", "deferred"]
    reason: str = ""


SENT = Outcome("sent")


class Mailer(Protocol):
    async def send(self, emails: Sequence[Email]) -> Sequence[Outcome]:
        """Hands the letters over, in order, and says what became of each.

        Sending a letter twice is possible (a crash before the outcome is recorded); both copies
        then bear the same Message-ID. Never raises for a letter or an unreachable server.
        """
        ...


class BadAddressError(Exception):
    """The recipient's address is not one (RFC 5322 addr-spec)."""


def compose(email: Email, sender: str) -> EmailMessage:
    """The letter with plain and HTML text; the same bytes every time.

    Raises:
        BadAddressError
    """
    message = EmailMessage(policy=SMTP)
    try:
        message["To"] = Address(addr_spec=email.to)
    except (ValueError, IndexError, MessageError):
        raise BadAddressError from None
    message["From"] = Address(addr_spec=sender)
    message["Subject"] = one_line(email.subject)
    message["Date"] = format_datetime(datetime.fromtimestamp(email.written_at / 1000, UTC))
    message["Message-ID"] = f"<{email.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    message.set_boundary(f"=_{email.id}")
    return message
