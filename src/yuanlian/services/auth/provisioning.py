"""Accounts in bulk, for loaders that bring their own password hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.errors import ConflictError
from yuanlian.kit.ids import new_id
from yuanlian.services.auth import repository
from yuanlian.services.auth.members.seating import TAKEN
from yuanlian.services.auth.models import ACTIVE, Membership, User
from yuanlian.services.auth.passwords import Argon2Parameters, check_policy, hash_password
from yuanlian.services.auth.roles import PLATFORM_ADMIN
from yuanlian.services.auth.usernames import check_username, normalised

__all__ = [
    "PLATFORM",
    "Account",
    "Argon2Parameters",
    "Seat",
    "check_credentials",
    "create_operator",
    "hash_password",
    "provision",
]


@dataclass(frozen=True, slots=True)
class Seat:
    """A membership. ``roles`` are ids such as ``teacher``. ``name``, ``phone`` and ``email`` where
    this tenant knows them differently from the account's."""

    tenant_id: str
    roles: Sequence[str]
    name: str | None = None
    phone: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A person who can sign in. ``password_hash``: from ``hash_password``; one hash may serve many.
    It counts as the person's own. ``seats``: who never signed in anywhere gets into the first one."""

    id: str
    username: str
    password_hash: str
    name: str
    seats: Sequence[Seat]
    phone: str | None = None
    email: str | None = None


def provision(session: Session, accounts: Sequence[Account], created_at: int | None = None) -> None:
    """Inserts users and memberships in two statements, in a scope that admits their tenants
    (``tenant_group``, ``across_tenants``). ``created_at`` in epoch ms; now when not given."""
    if created_at is None:
        created_at = SystemClock().now_ms()
    repository.insert_users(session, [_user(account, created_at) for account in accounts])
    repository.insert_memberships(
        session,
        [
            _membership(account, seat, created_at + position)
            for account in accounts
            for position, seat in enumerate(account.seats)
        ],
    )


def check_credentials(username: str, password: str) -> None:
    """The rules that users' administration applies. Raises ``ValidationError`` on the field."""
    check_username(normalised(username))
    check_policy("password", password, normalised(username))


def create_operator(session: Session, username: str, password_hash: str, name: str) -> str:
    """A new account that administers the platform, in the platform's tenant scope; returns its id.

    Raises:
        ConflictError: the username is taken. An account of a kindergarten never becomes an operator's.
    """
    if repository.user_by_name(session, normalised(username)) is not None:
        raise ConflictError(TAKEN)
    seat = Seat(PLATFORM, [PLATFORM_ADMIN])
    account = Account(new_id("user"), username, password_hash, name, [seat])
    provision(session, [account])
    return account.id


def _user(account: Account, created_at: int) -> User:
    tenants = {seat.tenant_id for seat in account.seats}
    return User(
        id=account.id,
        username=normalised(account.username),
        password_hash=account.password_hash,
        chose_password=True,
        status="active",
        managed_by=next(iter(tenants)) if len(tenants) == 1 else None,
        created_at=created_at,
    )


def _membership(account: Account, seat: Seat, created_at: int) -> Membership:
    return Membership(
        tenant_id=seat.tenant_id,
        user_id=account.id,
        name=seat.name or account.name,
        phone=seat.phone or account.phone,
        email=seat.email or account.email,
        roles=list(seat.roles),
        status=ACTIVE,
        invitation_hash=None,
        last_used_at=None,
        created_at=created_at,
    )
