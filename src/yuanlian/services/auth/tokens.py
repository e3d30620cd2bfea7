"""Issues what ``kit.identity.tokens`` verifies, and makes refresh tokens."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping

import msgspec
from joserfc import jwt
from joserfc.jwk import OctKey

from yuanlian.kit.errors import AuthorizationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import AUDIENCE, ISSUER, LIFETIME_S, MAX_TOKEN_BYTES, AccessClaims
from yuanlian.kit.ids import new_id

TOO_LARGE = Text("角色权限过多，请联系管理员精简", "The roles carry too many permissions; ask an admin")


class TokenIssuer:
    """``keys``: as for ``AccessTokenVerifier``; ``active``: the key id that signs new tokens."""

    def __init__(self, keys: Mapping[str, bytes], active: str) -> None:
        self._key = OctKey.import_key(keys[active])
        self._active = active

    def issue(self, principal: Principal) -> str:
        """An access token for ``principal``, issued ``LIFETIME_S`` before it expires.

        Raises:
            AuthorizationError: its roles do not fit into a token.
        """
        claims = AccessClaims(
            iss=ISSUER,
            aud=AUDIENCE,
            sub=principal.user_id,
            iat=principal.expires_at - LIFETIME_S,
            exp=principal.expires_at,
            jti=new_id("token"),
            sid=principal.session_id,
            tenantId=principal.tenant_id,
            roles=principal.roles,
            permissions=principal.permissions,
            conditions=principal.conditions,
            name=principal.name,
        )
        header = {"alg": "HS256", "typ": "JWT", "kid": self._active}
        token: str = jwt.encode(header, msgspec.to_builtins(claims), self._key)
        if len(token) > MAX_TOKEN_BYTES:
            raise AuthorizationError(TOO_LARGE)
        return token


def new_refresh_token() -> str:
    """Opaque to clients; 256 random bits."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a refresh token."""
    return hashlib.sha256(secret.encode()).hexdigest()
