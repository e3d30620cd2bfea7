"""Keys lead with the tenant, so that the rows of one lie together and no question walks through others'.
Decision record 0012 has the exceptions: what a group commit reads and writes for many tenants at once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table, UniqueConstraint

from yuanlian.kit.database.schema import Base, TenantOwned
from yuanlian.runtime import schema  # the models of all services

IN_GROUPS = {"attendance_days", "attendance_events", "notification_receipts", "notifications"}
"""Of these, the primary keys and what is unique."""
ACROSS_TENANTS = {
    ("guardians", "user_id"),  # whose children somebody has, wherever they are
    ("memberships", "user_id"),
    ("staff_classes", "user_id"),
    ("student_guardians", "guardian_id"),
    ("student_guardians", "student_id"),  # in groups, too
    ("students", "id"),
}


def owned() -> Sequence[Table]:
    assert schema.metadata is Base.metadata
    found = [mapper.local_table for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantOwned)]
    return [table for table in found if isinstance(table, Table)]


def keys_of(table: Table) -> list[tuple[str, ...]]:
    unique = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    keys = [
        table.primary_key.columns,
        *(c.columns for c in unique),
        *(index.columns for index in table.indexes),
    ]
    return [tuple(column.name for column in columns) for columns in keys]


def test_keys_of_tenant_owned_tables_lead_with_the_tenant() -> None:
    others = {
        (table.name, key)
        for table in owned()
        for key in keys_of(table)
        if key[0] != "tenant_id" and (table.name, key[0]) not in ACROSS_TENANTS
    }
    assert {name for name, _ in others} == IN_GROUPS
    assert all("tenant_id" in key for _, key in others), "a key without the tenant is unique across tenants"


def test_each_can_be_read_by_tenant() -> None:
    """Receipts are read by their notification only."""
    without = {table.name for table in owned() if all(key[0] != "tenant_id" for key in keys_of(table))}
    assert without == {"notification_receipts"}
