"""E-mail out of the queue: sending it, and saying on the receipt what became of it.

At least once: the letter leaves before its receipt is brought up to date, so a crash between the
two sends it again, under the same Message-ID. The other order could lose it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy.orm import Session

from yuanlian.contracts.notification import SendEmail
from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.i18n import Text
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.tenancy.scope import tenant_group
from yuanlian.services.notification.mailer import Email, Mailer, Outcome
from yuanlian.services.notification.repository import NotificationRepository, ReceiptKey
from yuanlian.services.notification.telling import receipt_key
from yuanlian.services.notification.templates import as_html, render


class _Letter(NamedTuple):
    message: Message
    command: SendEmail
    receipt: ReceiptKey | None


class EmailDelivery:
    def __init__(self, *, database: Database, clock: Clock, mailer: Mailer) -> None:
        self._database = database
        self._clock = clock
        self._mailer = mailer

    async def deliver(self, messages: Sequence[Message]) -> None:
        """Sends what is not sent yet; those that went out stay out when others fail.

        Raises:
            ServiceUnavailableError: a letter may be taken later; the bus tries again.
            ValidationError, msgspec.ValidationError: a command is malformed; before anything is sent.
        """
        letters = [_read(message) for message in messages]
        emails = {letter.message.id: _email(letter) for letter in letters}
        with tenant_group({message.tenantId for message in messages}):
            letters = await self._unsent(letters)
            if not letters:
                return
            outcomes = await self._mailer.send([emails[letter.message.id] for letter in letters])
            await self._record(list(zip(letters, outcomes, strict=True)))
        deferred = [outcome for outcome in outcomes if outcome.result == "deferred"]
        if deferred:
            reason = deferred[0].reason
            raise ServiceUnavailableError(
                Text("邮件暂时无法发送：{reason}", "E-mail cannot be sent now: {reason}").with_(reason=reason)
            )

    async def _unsent(self, letters: list[_Letter]) -> list[_Letter]:
        """A batch is tried again when one of it failed: the others went out already."""
        keys = [letter.receipt for letter in letters if letter.receipt]
        if not keys:
            return letters
        sent = await self._database.read(lambda s: NotificationRepository(s).sent(keys))
        return [letter for letter in letters if letter.receipt not in sent]

    async def _record(self, results: Sequence[tuple[_Letter, Outcome]]) -> None:
        settled: defaultdict[tuple[str, str | None], list[ReceiptKey]] = defaultdict(list)
        for letter, outcome in results:
            if letter.receipt:
                status = _status(letter.message, outcome)
                settled[status, outcome.reason[:200] or None].append(letter.receipt)
        now = self._clock.now_ms()

        def settle(session: Session) -> None:
            for (status, reason), keys in settled.items():
                NotificationRepository(session).settle(keys, status, reason, now)

        if settled:
            await self._database.write(settle)


def _status(message: Message, outcome: Outcome) -> str:
    """A deferred letter that the bus will not try again has failed; a replay of its dead letter
    may still bring it to ``sent``."""
    if outcome.result == "sent":
        return "sent"
    final = outcome.result == "refused" or message.retry <= 0
    return "failed" if final else "queued"


def _read(message: Message) -> _Letter:
    command = msgspec.convert(message.data, SendEmail)
    return _Letter(message, command, receipt_key(command.receiptId) if command.receiptId else None)


def _email(letter: _Letter) -> Email:
    message, command, _ = letter
    words = render(command.template, command.variables, command.locale)
    return Email(
        id=message.id,
        to=command.to,
        subject=command.subject,
        text=words.body + "\n",
        html=as_html(words, command.locale),
        written_at=message.timestamp,
    )
