"""The message on the bus. Source: specification "消息队列异步通信", CONTRACT §8."""

from __future__ import annotations

from typing import Any

import msgspec

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.context import current
from yuanlian.kit.ids import new_id

DEFAULT_RETRIES = 3
_clock = SystemClock()


class Message(msgspec.Struct, frozen=True, omit_defaults=False):
    """``retry``: how often a failed delivery may be tried again. ``delay``: milliseconds before the
    first delivery. ``data``: the event or command of ``contracts/``, as plain JSON values."""

    id: str
    type: str
    timestamp: int
    tenantId: str
    data: Any
    retry: int = DEFAULT_RETRIES
    delay: int = 0
    requestId: str | None = None
    userId: str | None = None

    @classmethod
    def new(
        cls,
        type_: str,
        tenant_id: str,
        data: Any,
        *,
        retry: int = DEFAULT_RETRIES,
        delay: int = 0,
        id_: str | None = None,
    ) -> Message:
        """A message caused by the request at hand."""
        context = current()
        return cls(
            id=id_ or new_id("msg"),
            type=type_,
            timestamp=_clock.now_ms(),
            tenantId=tenant_id,
            data=data,
            retry=retry,
            delay=delay,
            requestId=context.request_id,
            userId=context.principal.user_id if context.principal else None,
        )
