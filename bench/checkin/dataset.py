"""The kindergartens that both contenders serve, and the requests that both answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from bench.load import Plan
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import LIFETIME_S, key_id
from yuanlian.services.auth.grants import combine
from yuanlian.services.auth.roles import built_in
from yuanlian.services.auth.tokens import TokenIssuer

SECRET = "bench-only-secret-of-more-than-32-bytes"
PATH = "/api/tenant/attendance/events"


@dataclass(frozen=True, slots=True)
class Child:
    id: str
    name: str
    tenant_id: str
    class_id: str
    guardian_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """``teachers`` per tenant look after ``classes`` in equal shares; children are spread evenly over
    the classes. Ids tell who belongs to whom; names are numbers, nobody's."""

    tenants: int
    teachers: int
    classes: int
    children: int
    guardians: int

    def tenant_ids(self) -> list[str]:
        return [f"tenant_{t:03d}" for t in range(self.tenants)]

    def class_ids(self, tenant_id: str) -> list[str]:
        return [f"class_{tenant_id}_{c:02d}" for c in range(self.classes)]

    def teacher_ids(self, tenant_id: str) -> list[str]:
        return [f"teacher_{tenant_id}_{n}" for n in range(self.teachers)]

    def classes_of(self, tenant_id: str, teacher: int) -> list[str]:
        return self.class_ids(tenant_id)[teacher :: self.teachers]

    def children_of(self, tenant_id: str) -> Iterator[Child]:
        for number in range(self.children):
            id_ = f"student_{tenant_id}_{number:04d}"
            yield Child(
                id_,
                f"幼儿{number:04d}",
                tenant_id,
                self.class_ids(tenant_id)[number % self.classes],
                tuple(f"guardian_{id_}_{g}" for g in range(self.guardians)),
            )

    def __len__(self) -> int:
        return self.tenants * self.children


def request_plan(dataset: Dataset, children: range) -> Plan:
    """One check-in for each of these children (numbers within a tenant), by a teacher of the child's
    class; neighbouring requests are of different tenants."""
    heads: list[bytes] = []
    head_of: dict[tuple[str, int], int] = {}
    kid = key_id(SECRET.encode())  # the usual way does not look at it
    issuer = TokenIssuer({kid: SECRET.encode()}, kid)
    for tenant_id in dataset.tenant_ids():
        for teacher, user_id in enumerate(dataset.teacher_ids(tenant_id)):
            head_of[tenant_id, teacher] = len(heads)
            heads.append(_head(issuer.issue(_teacher(tenant_id, user_id))))
    requests = [
        (
            head_of[tenant_id, (number % dataset.classes) % dataset.teachers],
            _rest(f"student_{tenant_id}_{number:04d}"),
        )
        for number in children
        for tenant_id in dataset.tenant_ids()
    ]
    return Plan(heads, requests)


def _teacher(tenant_id: str, user_id: str) -> Principal:
    """As the auth service would sign one in."""
    grants = combine(built_in(tenant_id)["teacher"].permissions)
    return Principal(
        user_id=user_id,
        tenant_id=tenant_id,
        roles=("teacher",),
        permissions=grants.permissions,
        conditions=grants.conditions,
        session_id=f"session_{user_id}",
        name="教师",
        expires_at=int(time.time()) + LIFETIME_S,
    )


def _head(token: str) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept-language: zh-CN\r\n"
        f"content-type: application/json\r\nauthorization: Bearer {token}\r\n"
    ).encode()


def _rest(student_id: str) -> bytes:
    event = {
        "studentId": student_id,
        "type": "check_in",
        "eventId": f"event_{student_id}",
        "method": "staff",
        "temperature": 36.5,
    }
    body = msgspec.json.encode({"data": event, "meta": {"version": "v1"}})
    return b"content-length: %d\r\n\r\n" % len(body) + body
