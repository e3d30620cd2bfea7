"""What is known about the request (or message) being served, for logs, envelopes and messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec

from yuanlian.kit.i18n import DEFAULT_LOCALE, Locale
from yuanlian.kit.ids import new_id

if TYPE_CHECKING:
    from yuanlian.kit.identity.principal import Principal


class RequestContext(msgspec.Struct, frozen=True):
    request_id: str
    locale: Locale = DEFAULT_LOCALE
    principal: Principal | None = None
    started: float = msgspec.field(default_factory=time.perf_counter)

    @property
    def duration_ms(self) -> int:
        return int((time.perf_counter() - self.started) * 1000)


_current: ContextVar[RequestContext | None] = ContextVar("yuanlian_request", default=None)


def current() -> RequestContext:
    """The context of the work at hand; outside any request, a fresh one."""
    return _current.get() or RequestContext(request_id=new_id("req"))


def known() -> RequestContext | None:
    """The context of the work at hand, if there is one."""
    return _current.get()


enter = _current.set
"""``serving`` where a generator per request is too much: what it returns goes to ``leave``, always."""
leave = _current.reset


@contextmanager
def serving(context: RequestContext) -> Iterator[RequestContext]:
    """Everything inside the block, awaited calls included, belongs to this request."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
