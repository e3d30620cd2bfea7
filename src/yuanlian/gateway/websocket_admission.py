"""Who may speak on ``/ws``, and what they may hear. The rules for channels are the tenant service's."""

from __future__ import annotations

import msgspec

from yuanlian.contracts import tenant as tenant_contract
from yuanlian.gateway.authentication import TokenVerifier
from yuanlian.gateway.failed_tokens import FailedTokens
from yuanlian.gateway.websocket_frames import Auth
from yuanlian.kit.errors import AuthenticationError, AuthorizationError
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.revocation import Revocations
from yuanlian.kit.realtime.hub import USER_CHANNEL_PREFIX, user_channel
from yuanlian.kit.tenancy.directory import TenantDirectory

OWN_CHANNEL = "user"

_OTHER_TENANT = Text("令牌不属于该租户", "The token belongs to another tenant")
_NOT_ACTIVE = Text("租户不存在或已停用", "The tenant does not exist or is suspended")
_NOT_YOURS = Text("不能订阅他人的频道", "This channel belongs to somebody else")


class Admission:
    """Decides with the gateway's own verifier, revocations and tenant directory. ``failed``: counts for the
    address that a bad token came from."""

    def __init__(
        self,
        verifier: TokenVerifier,
        revocations: Revocations,
        directory: TenantDirectory,
        client: ServiceClient,
        failed: FailedTokens,
    ) -> None:
        self._verifier = verifier
        self._revocations = revocations
        self._directory = directory
        self._client = client
        self._failed = failed

    def identify(self, frame: Auth, network: str) -> Principal:
        """Whose token it is. ``network``: the client's address as it is counted.

        Raises:
            AuthenticationError: not valid, or no longer.
            LimitReachedError: not valid, from where too many came that were not.
            AuthorizationError: valid, for another tenant than the frame names.
        """
        try:
            verified = self._verifier.verify(frame.token)
        except AuthenticationError:
            self._failed.count(network)
            raise
        principal = verified.principal
        if self._revocations.is_revoked(principal, verified.issued_at):
            raise AuthenticationError
        if principal.tenant_id != frame.tenantId:
            raise AuthorizationError(_OTHER_TENANT)
        return principal

    async def default_channels(self, principal: Principal) -> tuple[str, ...]:
        """What the caller follows without asking, their own channel first.

        Raises:
            AuthorizationError: the tenant is not active.
            AppError: what the tenant service answered.
        """
        tenant = await self._directory.find(principal.tenant_id)
        if tenant is None or tenant.status != "active":
            raise AuthorizationError(_NOT_ACTIVE)
        data = await self._client.call(
            tenant_contract.SERVICE, "GET", tenant_contract.CHANNELS_PATH, principal=principal
        )
        channels = msgspec.convert(data, tenant_contract.Channels).channels
        own = user_channel(principal.user_id)
        return (own, *(c for c in channels if not c.startswith(USER_CHANNEL_PREFIX)))

    def own_channel(self, principal: Principal, channel: str) -> str | None:
        """The caller's own channel when ``channel`` means it; None when it is not a user's at all.

        Raises:
            AuthorizationError: somebody else's.
        """
        own = user_channel(principal.user_id)
        if channel in (OWN_CHANNEL, own):
            return own
        if channel.startswith(USER_CHANNEL_PREFIX):
            raise AuthorizationError(_NOT_YOURS)
        return None

    async def check_channel(self, principal: Principal, channel: str) -> None:
        """Raises the ``AppError`` with which the tenant service refuses the channel."""
        await self._client.call(
            tenant_contract.SERVICE,
            "GET",
            tenant_contract.CHANNEL_CHECK_PATH,
            principal=principal,
            query={"channel": channel},
        )
