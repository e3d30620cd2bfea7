"""From something to tell to the rows that tell it: a notification per recipient, a receipt per
recipient and channel, an e-mail per address. No I/O; the same for one event and for a batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from yuanlian.contracts.attendance import AttendanceUpdated
from yuanlian.contracts.notification import NOTIFICATION_EMAIL, SendEmail
from yuanlian.contracts.tenant import AudienceMember
from yuanlian.kit.i18n import DEFAULT_LOCALE
from yuanlian.kit.ids import new_id
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.tenancy.directory import DEFAULT_ZONE
from yuanlian.services.notification.schemas import Channel, ReceiptStatus
from yuanlian.services.notification.templates import render

EMAIL_RETRIES = 6
"""Greylisting servers take a letter after some minutes: attempts after 1, 5, 30, 300, 300, 300 s."""
ANNOUNCED = frozenset(("check_in", "check_out", "absent"))
_FACTS = (
    "studentId",
    "studentName",
    "classId",
    "className",
    "type",
    "dayState",
    "date",
    "occurredAt",
)


class Addressee(NamedTuple):
    """``key`` tells recipients of one source apart."""

    key: str
    name: str
    user_id: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell. ``facts`` are kept with each notification; ``variables`` fill the template."""

    tenant_id: str
    source_id: str
    template: str
    variables: dict[str, Any]
    facts: dict[str, Any]
    people: Sequence[Addressee]
    request_id: str | None = None
    user_id: str | None = None


News = tuple[Notice, dict[str, Any]]


@dataclass(slots=True)
class Told:
    """Rows to store together; ``news``: the notifications, each with what it tells of."""

    notifications: list[dict[str, Any]] = field(default_factory=list)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    emails: list[Message] = field(default_factory=list)
    news: list[News] = field(default_factory=list)


def notice_of(event: AttendanceUpdated, message: Message) -> Notice | None:
    """What guardians are told of an attendance event; None when it announces nothing: a late one
    is not news (DESIGN §6 invariant 5), and leave was asked for by the guardians themselves."""
    if event.late or event.type not in ANNOUNCED or not event.recipients:
        return None
    facts = {name: getattr(event, name) for name in _FACTS}
    if event.temperature is not None:
        facts["temperature"] = event.temperature
    if event.timeZone != DEFAULT_ZONE:
        facts["timeZone"] = event.timeZone
    return Notice(
        tenant_id=message.tenantId,
        source_id=event.id,
        template=f"attendance_{event.type}",
        variables=facts,
        facts=facts,
        people=[Addressee(p.guardianId, p.name, p.userId, p.email) for p in event.recipients],
        request_id=message.requestId,
        user_id=message.userId,
    )


def addressees(members: Iterable[AudienceMember]) -> list[Addressee]:
    """An audience without its repetitions: a teacher who is also a guardian is told once."""
    people: dict[str, Addressee] = {}
    for index, member in enumerate(members):
        key = member.userId or member.email or f"{member.kind}:{index}"
        people.setdefault(key, Addressee(key, member.name, member.userId, member.email))
    return list(people.values())


def tell(notices: Iterable[Notice], known: Collection[tuple[str, str, str]], now: int) -> Told:
    """Rows for every addressee who is not ``known`` (tenant, source, recipient) to be told already."""
    rows, told = Told(), set(known)
    for notice in notices:
        facts = msgspec.json.encode(notice.facts).decode()
        for person in notice.people:
            key = (notice.tenant_id, notice.source_id, person.key)
            if key not in told:
                told.add(key)
                rows.news.append((notice, _tell_one(rows, notice, person, facts, now)))
    return rows


def _tell_one(rows: Told, notice: Notice, person: Addressee, facts: str, now: int) -> dict[str, Any]:
    row = {
        "tenant_id": notice.tenant_id,
        "id": new_id("notification"),
        "source_id": notice.source_id,
        "recipient": person.key,
        "name": person.name,
        "user_id": person.user_id,
        "template": notice.template,
        "facts": facts,
        "created_at": now,
        "read_at": None,
    }
    rows.notifications.append(row)
    if person.user_id is not None:
        rows.receipts.append(_receipt(row, "inapp", "delivered", now))
    if person.email:
        rows.receipts.append(_receipt(row, "email", "queued", now))
        rows.emails.append(_email(notice, person.email, receipt_id(str(row["id"]), "email"), now))
    if person.user_id is None and not person.email:
        rows.receipts.append(_receipt(row, "inapp", "not_reached", now))
    return row


def _receipt(row: dict[str, Any], channel: Channel, status: ReceiptStatus, now: int) -> dict[str, Any]:
    return {
        "tenant_id": row["tenant_id"],
        "notification_id": row["id"],
        "channel": channel,
        "status": status,
        "reason": None,
        "updated_at": now,
    }


def receipt_id(notification_id: str, channel: str) -> str:
    """A receipt has no key but its notification and channel; this is their name in one string."""
    return f"receipt_{notification_id.removeprefix('notification_')}_{channel}"


def receipt_key(id_: str) -> tuple[str, str]:
    """(notification id, channel) of a ``receipt_id``."""
    unique, _, channel = id_.removeprefix("receipt_").rpartition("_")
    return f"notification_{unique}", channel


def _email(notice: Notice, to: str, receipt_id: str, now: int) -> Message:
    command = SendEmail(
        to=to,
        subject=render(notice.template, notice.variables, DEFAULT_LOCALE).title,
        template=notice.template,
        variables=notice.variables,
        receiptId=receipt_id,
    )
    return Message(
        id=new_id("msg"),
        type=NOTIFICATION_EMAIL,
        timestamp=now,
        tenantId=notice.tenant_id,
        data=msgspec.to_builtins(command),
        retry=EMAIL_RETRIES,
        requestId=notice.request_id,
        userId=notice.user_id,
    )
