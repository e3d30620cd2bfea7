"""How tables are declared. A tenant-owned table inherits ``TenantOwned`` and cannot be read without
a tenant; anything else is installation-wide (outbox, sessions, the tenants themselves)."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TENANT_OWNED = "tenant_owned"

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    # MySQL needs a length for every VARCHAR; ids are a prefix and 32 hex digits.
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: String(64),
        int: BigInteger,
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


class TenantOwned:
    """Mixin of every table whose rows belong to one tenant; leads the primary key."""

    # Not a ClassVar: SQLAlchemy's own base declares it as an instance attribute.
    __table_args__: Any = {"info": {TENANT_OWNED: True}}  # noqa: RUF012

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True, sort_order=-1)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A subclass may give its own constraints; the mark must survive that.
        own = cls.__dict__.get("__table_args__", ())
        arguments = () if isinstance(own, dict) else tuple(own)
        options: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
        if arguments and isinstance(arguments[-1], dict):
            options, arguments = dict(arguments[-1]), arguments[:-1]
        options["info"] = {**options.get("info", {}), TENANT_OWNED: True}
        cls.__table_args__ = (*arguments, options)
        super().__init_subclass__(**kwargs)


def table_of(model: type[Base]) -> Table:
    """The Core table of a model, for multi-row statements on hot paths."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


def is_tenant_owned(table: object) -> bool:
    return isinstance(table, Table) and bool(table.info.get(TENANT_OWNED))
