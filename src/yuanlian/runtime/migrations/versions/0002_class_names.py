"""One class of a name in a kindergarten, also when two requests make it at the same time.

Two of one name can be there already where several processes have written: the younger ones get their id
behind the name, which their kindergarten may then change.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAME_LENGTH = 50

_classes = sa.table(
    "classes",
    sa.column("tenant_id", sa.String),
    sa.column("id", sa.String),
    sa.column("name", sa.String),
    sa.column("created_at", sa.BigInteger),
)


def upgrade() -> None:
    connection = op.get_bind()
    seen: set[tuple[str, str]] = set()
    rows = connection.execute(
        sa.select(_classes.c.tenant_id, _classes.c.id, _classes.c.name).order_by(
            _classes.c.created_at, _classes.c.id
        )
    ).all()
    for tenant_id, id_, name in rows:
        if (tenant_id, name) in seen:
            suffix = f" ({id_[-12:]})"
            connection.execute(
                sa.update(_classes)
                .where(_classes.c.tenant_id == tenant_id, _classes.c.id == id_)
                .values(name=name[: _NAME_LENGTH - len(suffix)] + suffix)
            )
        seen.add((tenant_id, name))
    op.create_index("uq_classes_tenant_id_name", "classes", ["tenant_id", "name"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_classes_tenant_id_name", table_name="classes")
