"""The rules of telling people: whom, once, and who may look."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, cast

import msgspec
import structlog
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from yuanlian.contracts import tenant
from yuanlian.contracts.attendance import AttendanceUpdated
from yuanlian.kit.clock import Clock
from yuanlian.kit.context import current
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import (
    ConflictError,
    FieldError,
    NotFoundError,
    ServiceUnavailableError,
    ValidationError,
)
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.http.pagination import encode_cursor
from yuanlian.kit.i18n import DEFAULT_LOCALE, Locale, Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.messaging import outbox
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.realtime.hub import Event, Realtime
from yuanlian.kit.tenancy.scope import tenant_group
from yuanlian.services.notification.repository import NotificationRepository, ReceiptKey, RecipientKey
from yuanlian.services.notification.schemas import (
    AnnouncementSent,
    Channel,
    NewAnnouncement,
    NotificationView,
    ReceiptStatus,
    ReceiptView,
)
from yuanlian.services.notification.telling import News, Notice, Told, addressees, notice_of, receipt_id, tell
from yuanlian.services.notification.templates import ANNOUNCEMENT, render

_log = structlog.get_logger("notification")

_CONTROL = Text("不能含有控制字符", "must not contain control characters")


class NotificationService:
    def __init__(
        self, *, database: Database, clock: Clock, client: ServiceClient, realtime: Realtime
    ) -> None:
        self.database = database
        self._clock = clock
        self._client = client
        self._realtime = realtime

    # -- attendance ---------------------------------------------------------------------------

    async def tell_guardians(self, messages: Sequence[Message]) -> None:
        """Tells each event's recipients, and nobody else, once: the key of a notification is what it tells
        of and whom, so a message that comes again finds it there. A fixed number of statements, however
        many messages and tenants."""
        events = [(msgspec.convert(message.data, AttendanceUpdated), message) for message in messages]
        notices = [notice for event, message in events if (notice := notice_of(event, message))]
        if not notices:
            return
        runs: list[Told] = []

        def tell_all(session: Session) -> Sequence[News]:
            """Nearly always nobody was told before; the key says so without a question."""
            try:
                runs.append(self._store(session, notices))
            except IntegrityError as error:
                raise _ToldBeforeError from error
            return runs[-1].news

        def tell_the_others(session: Session) -> Sequence[News]:
            """The answer to an earlier run's COMMIT may have been lost: of those, what is there is news."""
            known = NotificationRepository(session).told({notice.source_id for notice in notices})
            stored = set(known.values())
            earlier = [news for run in runs for news in run.news if news[1]["id"] in stored]
            runs.append(self._store(session, notices, known))
            return earlier + runs[-1].news

        with tenant_group({notice.tenant_id for notice in notices}):
            try:
                news = await self.database.write(tell_all, repeatable=True)
            except _ToldBeforeError:
                news = await self.database.write(tell_the_others, repeatable=True)
        await self._push(news)

    def _store(
        self, session: Session, notices: Sequence[Notice], known: Collection[RecipientKey] = ()
    ) -> Told:
        rows = tell(notices, known, self._clock.now_ms())
        if rows.notifications:
            NotificationRepository(session).add(rows.notifications, rows.receipts)
            outbox.add(session, rows.emails)
        return rows

    async def _push(self, news: Iterable[News]) -> None:
        """Live news to those who are looking. Their language is not known here."""
        events = [
            Event(row["tenant_id"], (f"user:{row['user_id']}",), partial(_news, row, notice.variables))
            for notice, row in news
            if row["user_id"] is not None
        ]
        if not events:
            return
        try:
            await self._realtime.publish(events)
        except ServiceUnavailableError as error:
            # They are in the inbox by now, and the letters on their way; doing it again would not show them.
            _log.warning("news not shown live", size=len(events), error=str(error))

    # -- the inbox ----------------------------------------------------------------------------

    @reads
    def inbox(
        self, session: Session, user_id: str, *, before: str | None, unread: bool, limit: int
    ) -> Page[NotificationView]:
        """One person's notifications in this kindergarten, the newest first."""
        repository = NotificationRepository(session)
        rows = repository.inbox(user_id, before, unread, limit + 1)
        more = len(rows) > limit
        return Page(
            self._views(repository, rows[:limit]),
            encode_cursor(rows[limit - 1].id, of="notifications") if more else None,
        )

    @writes
    def mark_read(self, session: Session, notification_id: str, user_id: str) -> NotificationView:
        """The first reading counts; a repeat changes nothing.

        Raises:
            NotFoundError: there is none, or it is somebody else's.
        """
        repository = NotificationRepository(session)
        repository.mark_read(notification_id, user_id, self._clock.now_ms())
        row = repository.notification(notification_id)
        if row is None or row.user_id != user_id:
            raise NotFoundError
        return self._views(repository, [row])[0]

    def _views(self, repository: NotificationRepository, rows: Sequence[Row[Any]]) -> list[NotificationView]:
        sources = {row.source_id for row in rows if row.template == ANNOUNCEMENT}
        written = repository.announcements(sources) if sources else {}
        locale = current().locale
        views = []
        for row in rows:
            text = written.get(row.source_id)
            facts = {"title": text.title, "body": text.body} if text else msgspec.json.decode(row.facts)
            views.append(_view(row._asdict(), facts, locale))
        return views

    # -- receipts -----------------------------------------------------------------------------

    @reads
    def receipts(
        self, session: Session, principal: Principal, id_: str, *, after: ReceiptKey | None, limit: int
    ) -> Page[ReceiptView]:
        """Of an announcement: for its sender, and for whoever may announce without condition. Of a
        notification: for its recipient.

        Raises:
            NotFoundError: there is none, or it is not for this caller to see.
        """
        repository = NotificationRepository(session)
        own = repository.notification(id_)
        if own is not None and own.user_id == principal.user_id:
            return Page(_receipt_views(repository.receipts_of(id_)))
        announcement = repository.announcements([id_]).get(id_)
        if announcement is None or not _may_follow(principal, announcement.sender_id):
            raise NotFoundError
        rows = repository.receipts_of_source(id_, after, limit + 1)
        more = len(rows) > limit
        last = rows[limit - 1] if more else None
        cursor = encode_cursor(last.notification_id, last.channel, of="receipts") if last else None
        return Page(_receipt_views(rows[:limit]), cursor)

    # -- announcements ------------------------------------------------------------------------

    async def announce(
        self, principal: Principal, wanted: NewAnnouncement, idempotency_key: str | None
    ) -> AnnouncementSent:
        """Tells an audience. The tenant service decides who that is and whether this caller may
        address it. A repeat with the same key returns the first result.

        Raises:
            ValidationError: control characters in the text.
            AuthorizationError, NotFoundError: from the tenant service.
            ConflictError: the key was used for another announcement.
        """
        _check_text(wanted)
        first = await self.database.read(lambda s: _repeat(s, principal, wanted, idempotency_key))
        if first is not None:
            return first
        answer = await self._client.call(
            tenant.SERVICE,
            "GET",
            tenant.RECIPIENTS_PATH,
            principal=principal,
            query={"audience": wanted.audience},
        )
        audience = msgspec.convert(answer, tenant.Audience)
        try:
            sent, told = await self.database.write(
                lambda s: self._announce(s, principal, wanted, idempotency_key, audience)
            )
        except IntegrityError:
            # Another process stored the same key between our look and our write.
            first = await self.database.read(lambda s: _repeat(s, principal, wanted, idempotency_key))
            if first is None:
                raise
            return first
        await self._push(told.news)
        return sent

    def _announce(
        self,
        session: Session,
        principal: Principal,
        wanted: NewAnnouncement,
        key: str | None,
        audience: tenant.Audience,
    ) -> tuple[AnnouncementSent, Told]:
        first = _repeat(session, principal, wanted, key)
        if first is not None:
            return first, Told()
        people = addressees(audience.members)
        id_, words = new_id("announcement"), {"title": wanted.title, "body": wanted.body}
        NotificationRepository(session).add_announcement(
            {
                "tenant_id": principal.tenant_id,
                "id": id_,
                "sender_id": principal.user_id,
                **words,
                "audience": wanted.audience,
                "recipients": len(people),
                "idempotency_key": key,
                "created_at": self._clock.now_ms(),
            }
        )
        notice = Notice(
            tenant_id=principal.tenant_id,
            source_id=id_,
            template=ANNOUNCEMENT,
            variables=words,
            facts={},
            people=people,
            request_id=current().request_id,
            user_id=principal.user_id,
        )
        return AnnouncementSent(id_, len(people)), self._store(session, [notice])


class _ToldBeforeError(Exception):
    """Some of the recipients have the notification already."""


def _check_text(wanted: NewAnnouncement) -> None:
    """Lines and tabs are text; other control characters (Unicode ``Cc``) are nothing that a person
    writes, and some databases, mail servers and terminals choke on them or obey them."""
    problems = [
        FieldError(name, _CONTROL)
        for name, text in (("title", wanted.title), ("body", wanted.body))
        if any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in text)
    ]
    if problems:
        raise ValidationError(details=problems)


def _repeat(
    session: Session, principal: Principal, wanted: NewAnnouncement, key: str | None
) -> AnnouncementSent | None:
    """The first result under this key, if there is one."""
    if key is None:
        return None
    row = NotificationRepository(session).announcement_by_key(principal.user_id, key)
    if row is None:
        return None
    if (row.title, row.body, row.audience) != (wanted.title, wanted.body, wanted.audience):
        raise ConflictError(
            Text("该幂等键已用于另一条公告", "This idempotency key was used for another announcement")
        )
    return AnnouncementSent(row.id, row.recipients, duplicate=True)


def _may_follow(principal: Principal, sender_id: str) -> bool:
    return principal.user_id == sender_id or principal.holds_unconditionally("announcement.write")


def _view(
    row: dict[str, Any], variables: dict[str, Any], locale: Locale = DEFAULT_LOCALE
) -> NotificationView:
    words = render(row["template"], variables, locale)
    announced = row["template"] == ANNOUNCEMENT
    return NotificationView(
        id=row["id"],
        kind=ANNOUNCEMENT if announced else "attendance",
        title=words.title,
        body=words.body,
        data={"announcementId": row["source_id"]}
        if announced
        else {"eventId": row["source_id"], **variables},
        createdAt=row["created_at"],
        readAt=row["read_at"],
    )


def _news(row: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """The message of ``/ws``; made only for those who receive it."""
    return {"type": "notification", "data": msgspec.to_builtins(_view(row, variables))}


def _receipt_views(rows: Iterable[Row[Any]]) -> list[ReceiptView]:
    return [
        ReceiptView(
            id=receipt_id(row.notification_id, row.channel),
            notificationId=row.notification_id,
            recipient=row.name,
            channel=cast("Channel", row.channel),
            status=cast("ReceiptStatus", row.status),
            updatedAt=row.updated_at,
            reason=row.reason,
        )
        for row in rows
    ]
