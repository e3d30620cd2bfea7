"""The tenant predicate that nothing can drop.

It is added while a statement is compiled, to every SELECT, UPDATE and DELETE of a tenant-owned table,
wherever in the statement the table stands: joins (outer ones in their ON clause), subqueries, CTEs,
unions, ORM loads and flushes. SQLAlchemy caches the compiled text, so the guard costs one bound value
per execution. Each compilation counts the places where a tenant-owned table is named and the
predicates added, and refuses to compile when a table was named without one. DESIGN §5 line 2, §6 invariant 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Engine,
    LargeBinary,
    String,
    Table,
    bindparam,
    cast,
    event,
    func,
    literal_column,
)
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import ColumnElement, FromClause, Insert, TextClause, and_
from sqlalchemy.sql.selectable import AliasedReturnsRows, Join
from sqlalchemy.util import LRUCache

from yuanlian.kit.database.schema import is_tenant_owned
from yuanlian.kit.errors import AppError, TenantRequiredError
from yuanlian.kit.tenancy.scope import ScopeKind, current_scope, current_tenant


class ForeignTenantError(Exception):
    """A row of another tenant was about to be written: a defect, never a user's mistake."""


class TenantGuard:
    """Puts the guard into an engine; make it before the engine's first connection."""

    def __init__(self, engine: Engine) -> None:
        dialect: Any = engine.dialect
        plain = dialect.statement_compiler
        dialect.statement_compiler = type("Guarded" + plain.__name__, (_TenantCompiler, plain), {})
        event.listen(engine, "before_execute", _check_statement)
        event.listen(engine, "handle_error", _unwrap)
        self._caches: dict[ScopeKind | None, Any] = {
            kind: LRUCache(500) for kind in ("tenant", "group", "across", None)
        }

    def enter(self, connection: Connection) -> None:
        """Call before each unit of work. Every kind of scope has its own cache of compiled
        statements, because their texts differ."""
        connection.execution_options(compiled_cache=self._caches[_kind_or_none()])


def _tenants_of_group() -> str:
    scope = current_scope()
    if scope.kind != "group":
        raise TenantRequiredError
    return f"|{'|'.join(sorted(scope.tenants))}|"


def _kind_or_none() -> ScopeKind | None:
    try:
        return current_scope().kind
    except TenantRequiredError:
        return None


_GROUP: BindParameter[str] = bindparam("scope_tenants", callable_=_tenants_of_group, type_=String())


def _predicate(owned: FromClause, dialect: str) -> ColumnElement[bool] | None:
    column = owned.c.tenant_id
    match _kind_or_none():
        case "across":
            return None
        case "group":
            # One value, so that it also holds in an executemany; and a check, not an access path:
            # as ``IN`` it would have the planner walk tenants times keys.
            # MariaDB looks for text by its collation, five times slower than for bytes.
            tenants = _GROUP if dialect == "sqlite" else cast(_GROUP, LargeBinary)
            return func.instr(tenants, literal_column("'|'") + column + literal_column("'|'")) > 0
        case _:
            # Without any scope too: executing it then raises in ``current_tenant``.
            return column == bindparam("scope_tenant", callable_=current_tenant, type_=String())


def _is_owned(source: object) -> bool:
    while isinstance(source, AliasedReturnsRows):
        source = source.element
    return is_tenant_owned(source)


def _leftmost(source: FromClause) -> Iterator[FromClause]:
    """What a FROM element brings in besides the right sides of its joins."""
    if isinstance(source, Join):
        yield from _leftmost(source.left)
    else:
        yield source


class _TenantCompiler:
    """Mixed in before a dialect's own statement compiler."""

    dialect: Any
    _named = 0
    _guarded = 0

    def _predicates(self, sources: Any) -> list[ColumnElement[bool]]:
        owned = [s for source in sources for s in _leftmost(source) if _is_owned(s)]
        self._guarded += len(owned)
        found = (_predicate(source, self.dialect.name) for source in owned)
        return [predicate for predicate in found if predicate is not None]

    def _compose_select_body(
        self,
        text: str,
        select: Any,
        compile_state: Any,
        inner_columns: Any,
        froms: Any,
        byfrom: Any,
        toplevel: Any,
        kwargs: Any,
    ) -> str:
        predicates = self._predicates(froms)
        if predicates:
            select = select._generate()
            select._where_criteria += tuple(predicates)
        body: str = super()._compose_select_body(  # type: ignore[misc]
            text, select, compile_state, inner_columns, froms, byfrom, toplevel, kwargs
        )
        return body

    def visit_join(self, join: Any, asfrom: bool = False, from_linter: Any = None, **kw: Any) -> str:
        predicates = self._predicates([join.right])
        if predicates:
            join = join._clone()
            join.onclause = and_(join.onclause, *predicates)
        text: str = super().visit_join(join, asfrom=asfrom, from_linter=from_linter, **kw)  # type: ignore[misc]
        return text

    def visit_table(self, table: Any, asfrom: bool = False, **kw: Any) -> str:
        if asfrom and is_tenant_owned(table):
            self._named += 1
        text: str = super().visit_table(table, asfrom=asfrom, **kw)  # type: ignore[misc]
        return text

    def visit_update(self, update_stmt: Any, visiting_cte: Any = None, **kw: Any) -> str:
        guarded = self._guard_target(update_stmt)
        text: str = super().visit_update(guarded, visiting_cte=visiting_cte, **kw)  # type: ignore[misc]
        return text

    def visit_delete(self, delete_stmt: Any, visiting_cte: Any = None, **kw: Any) -> str:
        guarded = self._guard_target(delete_stmt)
        text: str = super().visit_delete(guarded, visiting_cte=visiting_cte, **kw)  # type: ignore[misc]
        return text

    def visit_insert(self, insert_stmt: Any, visited_bindparam: Any = None, **kw: Any) -> str:
        before = self._named, self._guarded
        text: str = super().visit_insert(insert_stmt, visited_bindparam=visited_bindparam, **kw)  # type: ignore[misc]
        if insert_stmt.select is None:
            # The target of an INSERT needs no predicate; its rows are checked at execution.
            self._named, self._guarded = before
        return text

    def _guard_target(self, statement: Any) -> Any:
        if not _is_owned(statement.table):
            return statement
        self._guarded += 1
        predicate = _predicate(statement.table, self.dialect.name)
        return statement if predicate is None else statement.where(predicate)

    def process(self, obj: Any, **kwargs: Any) -> str:
        text: str = super().process(obj, **kwargs)  # type: ignore[misc]
        if obj is getattr(self, "statement", None) and self._named > self._guarded:
            raise CompileError("a tenant-owned table stands where the tenant guard cannot reach")
        return text


def _unwrap(context: ExceptionContext) -> AppError | None:
    """A missing tenant is met while values are bound; give the caller that error, not its wrapping."""
    error = context.original_exception
    if not isinstance(error, AppError):
        return None
    # A new one: SQLAlchemy raises it from the original, which must not be its own cause.
    return type(error)(error.message, error.details, error.headers)


def _check_statement(
    _connection: Connection,
    statement: Any,
    multiparams: Any,
    params: Any,
    _options: Any,
) -> None:
    """Refuses what the compiler cannot see: textual SQL, and rows of a tenant outside the scope."""
    if isinstance(statement, TextClause) and _kind_or_none() != "across":
        raise TenantRequiredError
    if isinstance(statement, Insert) and is_tenant_owned(statement.table):
        rows = _rows(statement, multiparams, params)
        _check_tenants(statement.table, (row.get("tenant_id") for row in rows))


def check_rows(table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """For statements that go to the driver directly: rows in the order of the table's columns.

    Raises:
        ForeignTenantError: one of them belongs to a tenant outside the scope.
    """
    if is_tenant_owned(table):
        position = table.c.keys().index("tenant_id")
        _check_tenants(table, (row[position] for row in rows))


def _check_tenants(table: Any, tenants: Iterable[Any]) -> None:
    scope = current_scope()
    for tenant in set(tenants):
        if not isinstance(tenant, str) or not scope.admits(tenant):
            raise ForeignTenantError(str(table))


def _rows(statement: Any, multiparams: Any, params: Any) -> Iterator[dict[str, Any]]:
    if multiparams:
        yield from multiparams
    elif params:
        yield params
    elif statement._values:
        yield {column.key: bind.value for column, bind in statement._values.items()}
    elif statement._multi_values:
        for rows in statement._multi_values:
            yield from ({getattr(k, "key", k): v for k, v in row.items()} for row in rows)
    else:
        raise ForeignTenantError("INSERT … SELECT into a tenant-owned table")
