"""Whose rows may be touched right now.

A scope is set at the edge (a request's verified tenant, a message's tenant) and read by the
database guard. There is no default: outside a scope, tenant-owned tables cannot be queried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import structlog

from yuanlian.kit.errors import TenantRequiredError

ScopeKind = Literal["tenant", "group", "across"]
_log = structlog.get_logger("tenancy")


@dataclass(frozen=True, slots=True)
class Scope:
    """``tenant``: one tenant. ``group``: several tenants sharing one transaction (group commit),
    limited to those named. ``across``: every tenant, for named and audited platform work."""

    kind: ScopeKind
    tenants: frozenset[str]
    reason: str = ""
    tenant: str = ""
    """The one of a ``tenant`` scope."""

    def admits(self, tenant_id: str) -> bool:
        return self.kind == "across" or tenant_id in self.tenants


_scope: ContextVar[Scope | None] = ContextVar("yuanlian_tenant_scope", default=None)


def current_scope() -> Scope:
    scope = _scope.get()
    if scope is None:
        raise TenantRequiredError
    return scope


def current_tenant() -> str:
    """The one tenant of this work.

    Raises:
        TenantRequiredError: there is none, or the work spans several.
    """
    scope = _scope.get()
    if scope is None or not scope.tenant:
        raise TenantRequiredError
    return scope.tenant


def tenant_if_one() -> str | None:
    """The one tenant of this work, for logs: none is not an error there."""
    scope = _scope.get()
    return scope.tenant or None if scope is not None else None


@contextmanager
def tenant_scope(tenant_id: str) -> Iterator[None]:
    token = enter_tenant(tenant_id)
    try:
        yield
    finally:
        leave_tenant(token)


def enter_tenant(tenant_id: str) -> Token[Scope | None]:
    """``tenant_scope`` where a generator per request is too much: what it returns goes to
    ``leave_tenant``, always."""
    return _scope.set(_tenant(tenant_id))


leave_tenant = _scope.reset


@lru_cache(maxsize=4096)
def _tenant(tenant_id: str) -> Scope:
    if not tenant_id:
        raise TenantRequiredError
    return Scope("tenant", frozenset((tenant_id,)), tenant=tenant_id)


@contextmanager
def tenant_group(tenants: Iterable[str]) -> Iterator[None]:
    """Work of several tenants in one transaction; statements see the rows of these tenants only."""
    named = frozenset(tenants)
    # "|" separates the tenants in the guard's predicate; no id has it.
    if not named or any(not tenant or "|" in tenant for tenant in named):
        raise TenantRequiredError
    with _entered(Scope("group", named)):
        yield


@contextmanager
def across_tenants(reason: str) -> Iterator[None]:
    """Platform work on every tenant's rows. Grep for it; each use is logged with its reason."""
    _log.info("across tenants", reason=reason)
    with _entered(Scope("across", frozenset(), reason)):
        yield


@contextmanager
def _entered(scope: Scope) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)
