"""Giving somebody a seat: part of one transaction, in the tenant's scope."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from yuanlian.kit.errors import ConflictError
from yuanlian.kit.i18n import Text
from yuanlian.kit.ids import new_id
from yuanlian.services.auth import repository
from yuanlian.services.auth.members.schemas import NewUser
from yuanlian.services.auth.models import ACTIVE, INVITED, Membership, User

TAKEN = Text("用户名已被使用", "The username is taken")
ALREADY = Text("该用户已是成员", "The user is a member already")


@dataclass(frozen=True, slots=True)
class Newcomer:
    """``username`` normalised; ``password_hash``: of the password to take the seat with."""

    username: str
    password_hash: str
    body: NewUser


def seat(
    session: Session, tenant_id: str, newcomer: Newcomer, now: int, *, new_account: bool
) -> tuple[Membership, User]:
    """An invited member: with a new account, or with one that exists and has to accept. Who sees only
    the membership cannot tell which.

    Raises:
        ConflictError: a member already; or the account exists and ``new_account`` is wanted.
    """
    user = repository.user_by_name(session, newcomer.username)
    invitation_hash = None
    if user is None:
        user = User(
            id=new_id("user"),
            username=newcomer.username,
            password_hash=newcomer.password_hash,
            chose_password=False,
            status=ACTIVE,
            managed_by=tenant_id,
            created_at=now,
        )
        repository.insert_users(session, [user])
    elif repository.membership(session, tenant_id, user.id) is not None:
        raise ConflictError(ALREADY)
    elif new_account:
        raise ConflictError(TAKEN)
    else:
        invitation_hash = newcomer.password_hash
    member = Membership(
        tenant_id=tenant_id,
        user_id=user.id,
        name=newcomer.body.name.strip(),
        phone=newcomer.body.phone,
        email=newcomer.body.email,
        roles=list(dict.fromkeys(newcomer.body.roles)),
        status=INVITED,
        invitation_hash=invitation_hash,
        created_at=now,
    )
    repository.insert_memberships(session, [member])
    return member, user
