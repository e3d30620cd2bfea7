"""How one attempt at one instance can fail."""

from __future__ import annotations

from typing import Protocol

from yuanlian.kit.errors import AppError, BadGatewayError, GatewayTimeoutError, ServiceUnavailableError

PASSING = frozenset({502, 503, 504})
"""Statuses that speak of the instance at this moment, not of the request."""
_OF_STATUS: dict[int, type[AppError]] = {503: ServiceUnavailableError, 504: GatewayTimeoutError}


class AttemptError(Exception):
    """One attempt brought no answer. ``error``: what the client is told if there is no other.
    ``unsent``: the request provably never left. ``unanswered``: nothing of an answer was passed on,
    so that an idempotent request may be repeated. ``paid``: the budget was asked and has agreed.
    ``overload``: it is ours, and no fault of the instance."""

    def __init__(
        self,
        error: AppError,
        reason: str,
        *,
        unsent: bool = False,
        unanswered: bool = False,
        paid: bool = False,
        overload: bool = False,
    ) -> None:
        self.error = error
        self.reason = reason
        self.unsent = unsent
        self.unanswered = unanswered
        self.paid = paid
        self.overload = overload
        super().__init__(reason)

    @classmethod
    def of_status(cls, status: int) -> AttemptError:
        """An answer of ``PASSING`` that is not passed on, because the request will be repeated."""
        error = _OF_STATUS.get(status, BadGatewayError)()
        return cls(error, f"status {status}", unanswered=True, paid=True)


class Answer(Protocol):
    """Who waits for the end of an attempt: a future, or whatever goes on without one."""

    def done(self) -> bool: ...

    def set_result(self, status: int, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...
