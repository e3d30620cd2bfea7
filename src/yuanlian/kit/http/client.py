"""Calls between services, in the name of the caller, whatever shape the platform runs in."""

from __future__ import annotations

from typing import Any, Protocol

from yuanlian.kit.identity.principal import Principal


class ServiceClient(Protocol):
    """``call`` sends the principal as ``X-Identity`` and the request id of the work at hand, and
    returns ``data`` of the envelope.

    Raises the ``AppError`` that the other service answered with; ``ServiceUnavailableError`` when
    it does not answer. Call before a transaction opens, never inside.
    """

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        principal: Principal,
        query: dict[str, str] | None = None,
        data: Any = None,
    ) -> Any: ...
