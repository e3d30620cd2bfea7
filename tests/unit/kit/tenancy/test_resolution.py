"""The 403 rule: header, else token, else domain selects; only the token grants. DESIGN §5."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from yuanlian.kit.errors import AppError, AuthorizationError, NotFoundError, TenantRequiredError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.kit.tenancy.resolution import TenantResolver

TENANTS = [
    Tenant("a", "阳光", domain="sunshine"),
    Tenant("b", "星星", domain="star.example.com"),
    Tenant("s", "停用", domain="closed", status="suspended"),
]


class _Directory:
    """A ``TenantDirectory`` in memory."""

    async def find(self, tenant_id: str) -> Tenant | None:
        return next((tenant for tenant in TENANTS if tenant.id == tenant_id), None)

    def at_hand(self, tenant_id: str) -> Tenant | None:
        return None  # as after a start

    async def find_by_domain(self, domain: str) -> Tenant | None:
        return next((tenant for tenant in TENANTS if tenant.domain == domain), None)

    def on_change(self, listener: Callable[[Tenant], None]) -> None:
        raise NotImplementedError


RESOLVER = TenantResolver(_Directory())


@pytest.mark.parametrize("header", [None, "a"])
def test_a_token_selects_its_own_tenant(header: str | None) -> None:
    assert asyncio.run(RESOLVER.for_principal(Principal("u", "a"), header)).id == "a"


@pytest.mark.parametrize(
    ("tenant", "header", "error"),
    [
        ("a", "b", AuthorizationError),
        ("a", "no_such", AuthorizationError),
        ("a", "s", AuthorizationError),
        ("a", "A", AuthorizationError),
        ("a", "", AuthorizationError),
        ("s", None, AuthorizationError),
        ("gone", None, AuthorizationError),
        ("", None, TenantRequiredError),
        ("", "a", TenantRequiredError),
    ],
)
def test_nothing_but_the_token_grants(tenant: str, header: str | None, error: type[AppError]) -> None:
    with pytest.raises(error):
        asyncio.run(RESOLVER.for_principal(Principal("u", tenant), header))


def test_refusals_do_not_tell_whether_a_tenant_exists() -> None:
    texts = set()
    for header in ("b", "s", "no_such"):
        with pytest.raises(AuthorizationError) as refused:
            asyncio.run(RESOLVER.for_principal(Principal("u", "a"), header))
        texts.add(refused.value.message)
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("header", "host", "tenant"),
    [
        ("b", "sunshine.example.com", "b"),
        (None, "sunshine.example.com", "a"),
        (None, "SUNSHINE.Example.Com:8080", "a"),
        (None, "sunshine.example.com.", "a"),
        (None, "star.example.com", "b"),
        (None, "star.elsewhere.com", None),
        (None, "localhost:8080", None),
        (None, "127.0.0.1:8080", None),
        (None, "[::1]:8080", None),
        (None, "", None),
        (None, "x" * 300 + ".example.com", None),
    ],
)
def test_without_a_token_the_header_then_the_domain_selects(
    header: str | None, host: str, tenant: str | None
) -> None:
    found = asyncio.run(RESOLVER.for_anyone(header, host))
    assert (found.id if found else None) == tenant


def test_without_a_token_a_tenant_that_does_not_exist_or_is_closed_is_told() -> None:
    with pytest.raises(NotFoundError, match="No such tenant"):
        asyncio.run(RESOLVER.for_anyone("no_such", ""))
    for header, host in (("s", ""), (None, "closed.example.com")):
        with pytest.raises(AuthorizationError):
            asyncio.run(RESOLVER.for_anyone(header, host))
