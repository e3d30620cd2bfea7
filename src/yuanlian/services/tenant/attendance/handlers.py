"""Events in: every recorded attendance moves the boards that are open. CONTRACT §7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE, AttendanceUpdated
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.realtime.hub import Event, Realtime

QUEUE = "attendance.queue"


def subscriptions(realtime: Realtime) -> list[Subscription]:
    async def move_boards(messages: Sequence[Message]) -> None:
        await realtime.publish([_board_event(message) for message in messages])

    return [Subscription(QUEUE, (ATTENDANCE_UPDATE,), move_boards)]


def _board_event(message: Message) -> Event:
    """A late event corrects the boards of its class, and says so; it is no news for a guardian."""
    update = msgspec.convert(message.data, AttendanceUpdated)
    channels: tuple[str, ...] = ("tenant", f"class:{update.classId}")
    if not update.late:
        channels += (f"student:{update.studentId}",)
    return Event(message.tenantId, channels, lambda: _board_message(update))


def _board_message(update: AttendanceUpdated) -> dict[str, Any]:
    return {
        "type": "attendance_update",
        "data": {
            "eventId": update.id,
            "studentId": update.studentId,
            "studentName": update.studentName,
            "classId": update.classId,
            "status": update.dayState,
            # Of the child's day: a message may come twice, and after a newer one. The greater counts.
            "version": update.dayVersion,
            "eventType": update.type,
            "date": update.date,
            "timestamp": update.occurredAt,
            "late": update.late,
        },
    }
