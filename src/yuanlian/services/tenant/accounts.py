"""People who can sign in, as the auth service knows them."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from yuanlian.kit.errors import NotFoundError, ValidationError
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.principal import Principal

AUTH_SERVICE = "auth-service"
USERS_PATH = "/api/auth/users"


class Account(msgspec.Struct, frozen=True):
    id: str
    name: str
    phone: str | None = None
    email: str | None = None


class Accounts:
    """Asks in the caller's name: who may not see the user there learns nothing here either."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def find(self, principal: Principal, user_id: str) -> Account:
        """A member of the caller's kindergarten. Call before a transaction opens.

        Raises:
            ValidationError: field ``userId``: there is no such user.
        """
        try:
            found = await self._client.call(
                AUTH_SERVICE, "GET", f"{USERS_PATH}/{quote(user_id, safe='')}", principal=principal
            )
        except NotFoundError:
            raise ValidationError.of("userId", "没有这个用户", "is not a user of this kindergarten") from None
        return msgspec.convert(found, Account)
