"""The auth service's manifest."""

from __future__ import annotations

from yuanlian.contracts.auth import SERVICE
from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.http.app import service_app
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.revocation import Revocations
from yuanlian.kit.module import ServiceModule
from yuanlian.kit.tenancy.directory import TenantDirectory
from yuanlian.services.auth import routes as internal_routes
from yuanlian.services.auth.authority import Authority
from yuanlian.services.auth.custom_roles import routes as role_routes
from yuanlian.services.auth.custom_roles.service import RoleService
from yuanlian.services.auth.invitations import routes as invitation_routes
from yuanlian.services.auth.invitations.service import InvitationService
from yuanlian.services.auth.members import routes as member_routes
from yuanlian.services.auth.members.service import MemberService
from yuanlian.services.auth.passwords import Argon2Parameters, Passwords
from yuanlian.services.auth.revocation import RevocationLog
from yuanlian.services.auth.signin import routes as signin_routes
from yuanlian.services.auth.signin.belonging import Belongings
from yuanlian.services.auth.signin.service import SignInService
from yuanlian.services.auth.signin.sessions import Sessions
from yuanlian.services.auth.throttle import Throttle
from yuanlian.services.auth.tokens import TokenIssuer

NAME = SERVICE


def module(
    *,
    database: Database,
    issuer: TokenIssuer,
    revocations: Revocations,
    directory: TenantDirectory,
    clock: Clock,
    identity: InternalIdentity,
    argon2: Argon2Parameters | None = None,
) -> ServiceModule:
    """``start`` loads the revocations that were in force before a restart; call it before serving."""
    log = RevocationLog(database, revocations, clock)
    sessions = Sessions(log, clock)
    authority = Authority(Authorizer(clock))
    passwords = Passwords(argon2)
    throttle = Throttle(database, clock)
    signin = SignInService(
        database,
        issuer=issuer,
        sessions=sessions,
        belongings=Belongings(database, directory),
        passwords=passwords,
        throttle=throttle,
        log=log,
        clock=clock,
    )
    members = MemberService(
        database,
        directory=directory,
        authority=authority,
        passwords=passwords,
        sessions=sessions,
        throttle=throttle,
        log=log,
        clock=clock,
    )
    invitations = InvitationService(database, directory=directory, passwords=passwords, throttle=throttle)
    roles = RoleService(database, authority=authority, log=log, clock=clock)
    handlers = [
        *signin_routes.routes(signin),
        *member_routes.routes(members),
        *invitation_routes.routes(invitations),
        *role_routes.routes(roles),
        *internal_routes.routes(log),
    ]
    return ServiceModule(
        NAME, service_app(NAME, handlers, identity), checks={"database": database.ping}, start=log.load
    )
