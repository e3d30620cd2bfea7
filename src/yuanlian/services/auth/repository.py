"""All SQL of the auth service. Statements on memberships and roles are limited to the tenant scope
by the database; those on other tables name a user, a session, a digest or a key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from yuanlian.kit.errors import ConflictError
from yuanlian.services.auth.models import (
    LoginFailures,
    Membership,
    RefreshToken,
    Revocation,
    Role,
    SignIn,
    User,
)

# Users


def user_by_name(session: Session, username: str) -> User | None:
    return session.scalar(select(User).where(User.username == username))


def user(session: Session, user_id: str) -> User | None:
    return session.get(User, user_id)


def delete_user(session: Session, user_id: str) -> None:
    session.execute(delete(User).where(User.id == user_id))


def replace_password(
    session: Session, user_id: str, expected: str, password_hash: str, *, chosen: bool = False
) -> bool:
    """Whether the hash was still ``expected``: one that somebody else has set meanwhile stays.
    ``chosen``: the person's own choice; else it only hashes the same password anew."""
    values: dict[str, Any] = {"password_hash": password_hash}
    if chosen:
        values["chose_password"] = True
    statement = update(User).where(User.id == user_id, User.password_hash == expected).values(values)
    return cast("CursorResult[Any]", session.execute(statement)).rowcount == 1


def insert_users(session: Session, rows: Sequence[User]) -> None:
    _insert(session, User, rows)


# Memberships


def membership(session: Session, tenant_id: str, user_id: str) -> Membership | None:
    return session.get(Membership, (tenant_id, user_id))


def memberships_of(session: Session, user_id: str) -> list[Membership]:
    """Oldest first; in the scope's tenants."""
    statement = (
        select(Membership)
        .where(Membership.user_id == user_id)
        .order_by(Membership.created_at, Membership.tenant_id)
    )
    return list(session.scalars(statement))


def members(session: Session, after: str | None, limit: int) -> list[tuple[Membership, User]]:
    """In order of user id, which is the order of creation."""
    statement = (
        select(Membership, User)
        .join(User, User.id == Membership.user_id)
        .order_by(Membership.user_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(Membership.user_id > after)
    return [(row[0], row[1]) for row in session.execute(statement)]


def member(session: Session, user_id: str) -> tuple[Membership, User] | None:
    statement = (
        select(Membership, User)
        .join(User, User.id == Membership.user_id)
        .where(Membership.user_id == user_id)
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else (row[0], row[1])


def count_members(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Membership)) or 0


def roles_of_members(session: Session) -> list[tuple[str, list[str]]]:
    """(user id, role ids) of the scope's members."""
    return [(row[0], row[1]) for row in session.execute(select(Membership.user_id, Membership.roles))]


def insert_memberships(session: Session, rows: Sequence[Membership]) -> None:
    _insert(session, Membership, rows)


def delete_membership(session: Session, user_id: str) -> None:
    session.execute(delete(Membership).where(Membership.user_id == user_id))


# Roles


def roles(session: Session, ids: Collection[str] | None = None) -> list[Role]:
    """The scope's own roles in order of creation; only those in ``ids`` when given."""
    statement = select(Role).order_by(Role.id)
    if ids is not None:
        statement = statement.where(Role.id.in_(ids))
    return list(session.scalars(statement))


def role_named(session: Session, name: str) -> Role | None:
    return session.scalar(select(Role).where(Role.name == name))


def save_role(session: Session, row: Role) -> None:
    """Raises ``ConflictError`` when another role has its name."""
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise ConflictError from error


def delete_role(session: Session, role_id: str) -> None:
    session.execute(delete(Role).where(Role.id == role_id))


# Sign-ins and refresh tokens


def sign_in(session: Session, session_id: str) -> SignIn | None:
    return session.get(SignIn, session_id)


def open_sign_ins(session: Session, user_id: str, now: int, limit: int = 1000) -> list[SignIn]:
    """Newest first."""
    statement = (
        select(SignIn)
        .where(SignIn.user_id == user_id, SignIn.revoked_at.is_(None), SignIn.expires_at > now)
        .order_by(SignIn.last_used_at.desc(), SignIn.id.desc())
        .limit(limit)
    )
    return list(session.scalars(statement))


def end_sign_ins(session: Session, ids: Collection[str], now: int) -> None:
    """They stay until they would have expired; their refresh tokens go."""
    if not ids:
        return
    session.execute(
        update(SignIn).where(SignIn.id.in_(ids), SignIn.revoked_at.is_(None)).values(revoked_at=now)
    )
    session.execute(delete(RefreshToken).where(RefreshToken.session_id.in_(ids)))


def forget_sign_ins(session: Session, user_id: str, expired_before: int | None = None) -> None:
    """Those of a user that expired before then; all of them without a limit."""
    of_user = select(SignIn.id).where(SignIn.user_id == user_id)
    if expired_before is not None:
        of_user = of_user.where(SignIn.expires_at < expired_before)
    ids = list(session.scalars(of_user))
    if ids:
        session.execute(delete(RefreshToken).where(RefreshToken.session_id.in_(ids)))
        session.execute(delete(SignIn).where(SignIn.id.in_(ids)))


def refresh_token(session: Session, digest: str) -> RefreshToken | None:
    return session.get(RefreshToken, digest)


def retire_refresh_tokens(session: Session, session_id: str, now: int) -> None:
    """Those still unused count as used now."""
    session.execute(
        update(RefreshToken)
        .where(RefreshToken.session_id == session_id, RefreshToken.used_at.is_(None))
        .values(used_at=now)
    )


def forget_old_refresh_tokens(session: Session, session_id: str, now: int) -> None:
    session.execute(
        delete(RefreshToken).where(RefreshToken.session_id == session_id, RefreshToken.expires_at < now)
    )


# Failed sign-ins


def failures(session: Session, keys: Collection[str]) -> dict[str, LoginFailures]:
    statement = select(LoginFailures).where(LoginFailures.key.in_(keys))
    return {row.key: row for row in session.scalars(statement)}


def forget_failures(session: Session, keys: Iterable[str]) -> None:
    session.execute(delete(LoginFailures).where(LoginFailures.key.in_(list(keys))))


def forget_failures_of(session: Session, prefix: str) -> None:
    session.execute(delete(LoginFailures).where(LoginFailures.key.startswith(prefix, autoescape=True)))


def forget_old_failures(session: Session, now: int) -> None:
    session.execute(delete(LoginFailures).where(LoginFailures.expires_at <= now))


# Revocations


def revocation(session: Session, key: str, *, to_change: bool = False) -> Revocation | None:
    """``to_change``: as nobody else can change it until the end of the transaction."""
    return session.get(Revocation, key, with_for_update=to_change)


def save_revocation(session: Session, row: Revocation) -> None:
    session.merge(row)


class CurrentRevocation(NamedTuple):
    """A row as it was read. Thousands are, again and again: entities take more than twice as long."""

    key: str
    session_id: str | None
    tenant_id: str | None
    user_id: str | None
    issued_before: int
    expires_at: int


def current_revocations(session: Session, now_s: int) -> list[CurrentRevocation]:
    columns = (getattr(Revocation, name) for name in CurrentRevocation._fields)
    statement = select(*columns).where(Revocation.expires_at > now_s)
    return [CurrentRevocation._make(row) for row in session.execute(statement)]


def forget_old_revocations(session: Session, now_s: int) -> None:
    session.execute(delete(Revocation).where(Revocation.expires_at <= now_s))


def _insert(session: Session, model: type[User | Membership], rows: Sequence[User | Membership]) -> None:
    """One statement for all of them, without the unit of work's bookkeeping per row.

    Raises:
        ConflictError: one of them exists already; whoever looked before may have been overtaken.
    """
    columns = [column.key for column in model.__table__.columns]
    if not rows:
        return
    values = [{column: getattr(row, column) for column in columns} for row in rows]
    try:
        session.execute(insert(model), values)
    except IntegrityError as error:
        raise ConflictError from error
