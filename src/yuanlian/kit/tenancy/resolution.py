"""Which kindergarten a request is about.

The specification's order (header, else token, else domain) *selects*; it never grants. A verified
token grants exactly one tenant, so a header can only repeat it. DESIGN §5.
"""

from __future__ import annotations

from yuanlian.kit.errors import AuthorizationError, NotFoundError, TenantRequiredError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.directory import Tenant, TenantDirectory

_FOREIGN = Text("无权访问该租户", "No access to this tenant")
_SUSPENDED = Text("租户已停用", "This tenant is suspended")
_UNKNOWN = Text("租户不存在", "No such tenant")


class TenantResolver:
    """Asks the directory (which caches) each time: a suspension holds from the next request on."""

    def __init__(self, directory: TenantDirectory) -> None:
        self._directory = directory

    async def for_principal(self, principal: Principal, header: str | None) -> Tenant:
        """The tenant of a verified caller.

        Raises:
            TenantRequiredError: the token names none.
            AuthorizationError: the header names another tenant than the token, or the tenant is
                suspended or gone. Whether another tenant exists is not told.
        """
        known = self.at_hand(principal, header)
        tenant = known or await self._directory.find(principal.tenant_id)
        if tenant is None:
            raise AuthorizationError(_FOREIGN)
        return _active(tenant)

    def at_hand(self, principal: Principal, header: str | None) -> Tenant | None:
        """The same without I/O; None when the tenant has to be looked up."""
        if not principal.tenant_id:
            raise TenantRequiredError
        if header is not None and header != principal.tenant_id:
            raise AuthorizationError(_FOREIGN)
        tenant = self._directory.at_hand(principal.tenant_id)
        return _active(tenant) if tenant is not None else None

    async def for_anyone(self, header: str | None, host: str) -> Tenant | None:
        """The tenant that somebody who has not signed in yet means; None when they mean none.

        Raises:
            NotFoundError: the header names a tenant that does not exist.
            AuthorizationError: the tenant is suspended.
        """
        if header is not None:
            named = await self._directory.find(header)
            if named is None:
                raise NotFoundError(_UNKNOWN)
            return _active(named)
        tenant = await self._by_host(host)
        return _active(tenant) if tenant is not None else None

    def nobody_is_meant(self, header: str | None, host: str) -> bool:
        """Whether ``for_anyone`` is None without looking anything up."""
        return header is None and not _domain(host)

    async def _by_host(self, host: str) -> Tenant | None:
        """``sunshine.example.com:8080`` is looked up whole, then as ``sunshine``."""
        domain = _domain(host)
        if not domain:
            return None
        label = domain.partition(".")[0]
        return await self._directory.find_by_domain(domain) or await self._directory.find_by_domain(label)


def _domain(host: str) -> str:
    """The name that a tenant may have; empty for an address, which is no name, and a bare label
    (``localhost``), which belongs to nobody."""
    domain = host.rpartition(":")[0] if ":" in host else host
    domain = domain.lower().rstrip(".")
    named = domain.partition(".")[2] != "" and len(domain) <= 253 and not domain.replace(".", "").isdigit()
    return domain if named else ""


def _active(tenant: Tenant) -> Tenant:
    if tenant.status != "active":
        raise AuthorizationError(_SUSPENDED)
    return tenant
