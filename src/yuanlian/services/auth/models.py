"""Who may sign in, where they belong, and the sign-ins that are open.

Memberships and roles are a tenant's own: administration happens inside a tenant scope, and only
signing in looks across tenants, by name. Everything else here is installation-wide, because it is
looked up before any tenant is known (a username, a refresh token, an address); its rows are always
selected by user, session or digest.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from yuanlian.kit.database.schema import Base, TenantOwned

ACTIVE, INVITED, SUSPENDED = "active", "invited", "suspended"


class User(Base):
    """A person's account. What a kindergarten knows of that person (name, phone, e-mail) stands in
    its membership, so that no tenant reads what another one wrote.

    ``managed_by``: the tenant that created the account, whose administrators may reset the password;
    none, for good, once the person has accepted a seat in a second one. ``chose_password``: the
    password is the person's own, not one that an administrator set and knows.
    """

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    chose_password: Mapped[bool]
    status: Mapped[str] = mapped_column(String(16), default="active")
    managed_by: Mapped[str | None]
    created_at: Mapped[int]


class Membership(TenantOwned, Base):
    """A seat in a kindergarten. ``roles``: ids of built-in roles (``teacher``) and of the tenant's own
    (``role_…``). ``status``: ``invited`` until the person has shown the password that the
    kindergarten chose for the seat, then ``active`` or ``suspended``.

    ``invitation_hash``: that password, where the person has an account of their own already and
    shows it when accepting. A new account has it for its own, and shows it by signing in.
    """

    __tablename__ = "memberships"
    __table_args__ = (Index(None, "user_id", "tenant_id"),)

    user_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    phone: Mapped[str | None] = mapped_column(String(32))
    email: Mapped[str | None] = mapped_column(String(254))
    roles: Mapped[list[str]]
    status: Mapped[str] = mapped_column(String(16), default="active")
    invitation_hash: Mapped[str | None] = mapped_column(String(255))
    last_used_at: Mapped[int | None]
    created_at: Mapped[int]

    @property
    def to_be_accepted(self) -> bool:
        """An invitation: it gives nothing, and takes nothing away, until its person accepts it."""
        return self.invitation_hash is not None

    @property
    def may_be_entered(self) -> bool:
        return not self.to_be_accepted and self.status in (ACTIVE, INVITED)


class Role(TenantOwned, Base):
    """A tenant's own role. ``permissions``: ``[{resource, action, condition?}]``."""

    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    permissions: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[int]


class SignIn(Base):
    """One device's session: a family of refresh tokens. ``tenant_id``: where it is active now."""

    __tablename__ = "sign_ins"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    tenant_id: Mapped[str]
    user_agent: Mapped[str] = mapped_column(String(256))
    address: Mapped[str]
    created_at: Mapped[int]
    last_used_at: Mapped[int]
    expires_at: Mapped[int]
    revoked_at: Mapped[int | None]


class RefreshToken(Base):
    """``digest``: SHA-256 of the secret, which has 256 bits of its own and needs no salt."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[int]
    expires_at: Mapped[int]
    used_at: Mapped[int | None]


class LoginFailures(Base):
    """Wrong passwords in a row, per account and per account and address; ``key`` is the account's
    digest, followed by the address's."""

    __tablename__ = "login_failures"

    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    locked_until: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)


class Revocation(Base):
    """What ``Revocations`` must know again after a restart: a session, or a member whose tokens
    issued before ``issued_before`` no longer count. Epoch seconds."""

    __tablename__ = "revocations"

    key: Mapped[str] = mapped_column(String(130), primary_key=True)
    session_id: Mapped[str | None]
    tenant_id: Mapped[str | None]
    user_id: Mapped[str | None]
    issued_before: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)
