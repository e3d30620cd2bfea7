"""The roster over HTTP: its nouns put together."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.services.tenant.access import Access
from yuanlian.services.tenant.accounts import Accounts
from yuanlian.services.tenant.roster.classes import routes as classes
from yuanlian.services.tenant.roster.classes.service import ClassService
from yuanlian.services.tenant.roster.guardians import routes as guardians
from yuanlian.services.tenant.roster.guardians.service import GuardianService
from yuanlian.services.tenant.roster.staff import routes as staff
from yuanlian.services.tenant.roster.staff.service import StaffService
from yuanlian.services.tenant.roster.students import routes as students
from yuanlian.services.tenant.roster.students.service import StudentService


def routes(
    database: Database, access: Access, client: ServiceClient, clock: Clock, realtime: Realtime
) -> list[ControllerRouterHandler]:
    """``client`` reaches the auth service, which knows the accounts."""
    accounts = Accounts(client)
    student_service = StudentService(database, access, clock, realtime)
    return [
        *classes.routes(ClassService(database, access, clock, realtime)),
        *students.routes(student_service),
        *guardians.routes(GuardianService(database, student_service, accounts, clock, realtime)),
        *staff.routes(StaffService(database, access, accounts, clock, realtime)),
    ]
