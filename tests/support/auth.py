"""The auth service on a database of its own, with a miniature of the gateway before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.support.databases import open_database

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.internal import HEADER, InternalIdentity
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import AccessTokenVerifier
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.auth.module import module
from yuanlian.services.auth.provisioning import Account, Argon2Parameters, Seat, hash_password, provision
from yuanlian.services.auth.tokens import TokenIssuer

KEYS = {"k1": b"a key of the tests, 32 bytes long"}
QUICK = Argon2Parameters(time_cost=1, memory_kib=8)
PASSWORD = "Demo@2026"
PASSWORD_HASH = hash_password(PASSWORD, QUICK)
START_MS = 1_790_000_000_000
SUN, STAR, PLATFORM = "tenant_sun", "tenant_star", "platform"


class MemoryDirectory:
    """``TenantDirectory`` in memory."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self._tenants = {tenant.id: tenant for tenant in tenants}
        self._listeners: list[Callable[[Tenant], None]] = []

    async def find(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    def at_hand(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    async def find_by_domain(self, domain: str) -> Tenant | None:
        return next((t for t in self._tenants.values() if t.domain == domain), None)

    def on_change(self, listener: Callable[[Tenant], None]) -> None:
        self._listeners.append(listener)

    def put(self, tenant: Tenant) -> None:
        self._tenants[tenant.id] = tenant
        for listener in self._listeners:
            listener(tenant)


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: httpx.Headers = field(default_factory=httpx.Headers)

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def message(self) -> str:
        return str(self.body["message"])

    @property
    def fields(self) -> list[str]:
        return [detail["field"] for detail in self.body["error"]["details"]]


class AuthRig:
    def __init__(self, path: Path, argon2: Argon2Parameters = QUICK) -> None:
        self.clock = ManualClock(START_MS)
        self.database = open_database(path / "auth.db")
        self.database.migrate(lambda connection: Base.metadata.create_all(connection))
        self.directory = MemoryDirectory(
            [Tenant(SUN, "阳光幼儿园"), Tenant(STAR, "星星幼儿园"), Tenant(PLATFORM, "平台")]
        )
        self.argon2 = argon2
        self.identity = InternalIdentity(b"an internal key of the tests, also long", self.clock)
        self.verifier = AccessTokenVerifier(KEYS, self.clock)
        self.issuer = TokenIssuer(KEYS, "k1")
        self.restart()

    def restart(self) -> None:
        """Everything in memory is lost; ``start`` is still to be called."""
        self.revocations = MemoryRevocations(self.clock)
        self.module = module(
            database=self.database,
            issuer=self.issuer,
            revocations=self.revocations,
            directory=self.directory,
            clock=self.clock,
            identity=self.identity,
            argon2=self.argon2,
        )
        self._http: dict[str, httpx.AsyncClient] = {}

    def _from(self, address: str) -> httpx.AsyncClient:
        """As the gateway calls: the client's true address is the connection's."""
        if address not in self._http:
            app: Any = self.module.app  # Litestar's ASGI types are narrower than httpx's
            transport = httpx.ASGITransport(app=app, client=(address, 50_000))
            self._http[address] = httpx.AsyncClient(transport=transport, base_url="http://auth")
        return self._http[address]

    async def seat(self, *accounts: Account) -> None:
        with across_tenants("test data"):
            await self.database.write(lambda s: provision(s, accounts, self.clock.now_ms()))

    def admit(self, token: str) -> Principal:
        """As the gateway does before it forwards. Raises ``AuthenticationError``."""
        verified = self.verifier.verify(token)
        if self.revocations.is_revoked(verified.principal, verified.issued_at):
            raise AuthenticationError
        return verified.principal

    def refused(self, token: str) -> bool:
        try:
            self.admit(token)
        except AuthenticationError:
            return True
        return False

    async def call(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        token: str | None = None,
        principal: Principal | None = None,
        address: str = "192.0.2.1",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = {"user-agent": "test", "accept-language": "en", **(headers or {})}
        principal = principal or (self.admit(token) if token else None)
        if principal is not None:
            sent[HEADER] = self.identity.sign(principal)
        body = None if data is None else {"data": data}
        response = await self._from(address).request(method, f"/api/auth{path}", json=body, headers=sent)
        return Answer(response.status_code, response.json(), response.headers)

    async def login(
        self, username: str, password: str = PASSWORD, tenant: str | None = None, **options: Any
    ) -> Answer:
        data = {"username": username, "password": password}
        if tenant is not None:
            data["tenantId"] = tenant
        return await self.call("POST", "/login", data, **options)

    async def token(self, username: str, tenant: str | None = None, password: str = PASSWORD) -> str:
        answer = await self.login(username, password, tenant)
        assert answer.status == 200, answer.body
        return str(answer.data["accessToken"])


def account(username: str, *seats: tuple[str, str], password_hash: str = PASSWORD_HASH) -> Account:
    """``seats``: (tenant, role)."""
    return Account(
        id=f"user_{username}",
        username=username,
        password_hash=password_hash,
        name=f"名-{username}",
        seats=[Seat(tenant, [role]) for tenant, role in seats],
    )


PEOPLE = (
    account("admin", (PLATFORM, "platform_admin")),
    account("yuanzhang", (SUN, "principal")),
    account("yuanzhang2", (STAR, "principal")),
    account("laoshi", (SUN, "teacher")),
    account("baojian", (SUN, "health_officer")),
    account("jiazhang", (SUN, "guardian"), (STAR, "guardian")),
)


@asynccontextmanager
async def auth_rig(path: Path, argon2: Argon2Parameters = QUICK) -> AsyncIterator[AuthRig]:
    rig = AuthRig(path, argon2)
    try:
        await rig.seat(*PEOPLE)
        assert rig.module.start is not None
        await rig.module.start()
        yield rig
    finally:
        await rig.database.close()


def with_rig(path: Path, scenario: Callable[[AuthRig], Awaitable[None]]) -> None:
    """Runs ``scenario`` on a fresh service with ``PEOPLE``."""

    async def run() -> None:
        async with auth_rig(path) as rig:
            await scenario(rig)

    asyncio.run(run())
