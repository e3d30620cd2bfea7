"""May this caller do this, to this? Permissions, and the conditions they are held under.

Conditions are CEL (https://cel.dev), compiled once per source and evaluated over five variables:

- ``user``: ``{id, tenantId, roles, …}`` and the attributes the caller of the decision adds
  (``classIds``, ``studentIds``);
- ``resource``: what it is done to; ``action``: ``read`` of ``student.read``;
- ``tenant``: ``{id}``; ``now``: a CEL timestamp in UTC (in China ``(now + duration('8h')).getHours()``).

Deny is the default: a condition that is malformed, fails or is not a boolean does not hold.
Source: specification "权限控制模型", CONTRACT §5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import structlog

from yuanlian.kit.clock import Clock, SystemClock
from yuanlian.kit.errors import AuthorizationError
from yuanlian.kit.identity.cel_engine import cel
from yuanlian.kit.identity.principal import Principal

VARIABLES = frozenset({"user", "resource", "action", "tenant", "now"})
MAX_SOURCE = 500
# Nested, these cost the product of their lists at every request of everybody under the condition;
# ``in`` covers what conditions are for. Without line breaks no comment can hide the parenthesis.
_LOOP = re.compile(r"\b(all|exists|exists_one|existsOne|map|filter|transform\w*|sortBy)\s*\(|[\r\n]")
_FIELD = r"\b{name}\s*\.\s*([A-Za-z_]\w*)(?!\w)(?!\s*\()"
_REPORTED_LIMIT = 1000

Decider = Callable[[Mapping[str, Any]], bool]
_log = structlog.get_logger("authorization")


class ConditionError(ValueError):
    """Why a text is not a condition; the message is in English, for a detail of an error."""


class Condition:
    """One compiled CEL source."""

    __slots__ = ("_program", "needs", "resource_fields", "user_fields")

    def __init__(self, source: str) -> None:
        """Raises:
        ConditionError: too long, malformed, with a loop, or about something unknown.
        """
        if len(source) > MAX_SOURCE:
            raise ConditionError(f"is longer than {MAX_SOURCE} characters")
        if _LOOP.search(source):
            raise ConditionError("has a loop or a line break")
        try:
            self._program = cel.compile(source)
        except ValueError:
            raise ConditionError("is not a CEL expression") from None
        self.needs = frozenset(self._program.variables())
        if unknown := self.needs - VARIABLES:
            raise ConditionError(f"refers to {', '.join(sorted(unknown))}")
        self.user_fields = _fields(source, "user")
        self.resource_fields = _fields(source, "resource")

    def evaluate(self, context: cel.Context) -> Any:
        return self._program.execute(context)


def _fields(source: str, name: str) -> frozenset[str] | None:
    """The fields of a variable that a source reads, when each use is plainly ``name.field``; else
    None. Converting a map to CEL costs 2 us per value, so the rest of it stays here."""
    fields = re.findall(_FIELD.format(name=name), source)
    uses = len(re.findall(rf"\b{name}\b", source))
    return frozenset(fields) if len(fields) == uses else None


def _project(values: Mapping[str, Any], fields: frozenset[str] | None) -> Mapping[str, Any]:
    if fields is None:
        return values
    return {name: values[name] for name in fields if name in values}


@lru_cache(maxsize=4096)
def compiled(source: str) -> Condition | ConditionError:
    """The condition, or why there is none; sources are few and come back with every request."""
    try:
        return Condition(source)
    except ConditionError as error:
        return error


_Question = tuple[Any, ...]
_ANSWERS_LIMIT = 20_000


def _question(
    sources: Sequence[str],
    principal: Principal,
    permission: str,
    resource: Mapping[str, Any],
    user: Mapping[str, Any] | None,
) -> _Question | None:
    """Everything that the conditions read, when that is plainly text: the same question has the same
    answer. None when it cannot be told, or when the time of day matters."""
    parts: list[Any] = [permission, principal.tenant_id]
    for source in sources:
        condition = compiled(source)
        if isinstance(condition, ConditionError) or "now" in condition.needs:
            return None
        parts.append(source)
        for fields, values in ((condition.user_fields, user or {}), (condition.resource_fields, resource)):
            if fields is None:
                return None
            for field in sorted(fields):
                part = _text_of(values.get(field))
                if part is None:
                    return None
                parts.append(part)
        if "user" in condition.needs:
            parts += (principal.user_id, principal.roles)
    return tuple(parts)


def _text_of(value: Any) -> str | tuple[str, ...] | None:
    """Only text: ``1``, ``1.0`` and ``true`` are one key in Python and three values in CEL."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


class _Held(NamedTuple):
    """A condition of one caller: all its variables but the resource are in place."""

    source: str
    condition: Condition
    context: cel.Context


class Authorizer:
    """Decides on permissions. Safe to share between threads.

    Cost: a set lookup without a condition; with one, a conversion of the fields it reads to CEL.
    For lists take ``decider``, which converts ``user`` once.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._reported: set[str] = set()
        self._answers: dict[_Question, bool] = {}

    def allows(
        self,
        principal: Principal,
        permission: str,
        resource: Mapping[str, Any],
        user: Mapping[str, Any] | None = None,
    ) -> bool:
        """Whether the permission is held for ``resource``. ``user``: the caller's attributes for the
        conditions, over ``{id, tenantId, roles}``; values as of JSON."""
        if permission not in principal.permissions:
            return False
        sources = principal.conditions.get(permission)
        if sources is None:
            return True
        question = _question(sources, principal, permission, resource, user)
        answer = None if question is None else self._answers.get(question)
        if answer is None:
            answer = self._decider(principal, permission, sources, user)(resource)
            self._remember(question, answer)
        return answer

    def _remember(self, question: _Question | None, answer: bool) -> None:
        if question is None:
            return
        if len(self._answers) >= _ANSWERS_LIMIT:
            self._answers.clear()  # answers never go stale; starting over is only slower for a while
        self._answers[question] = answer

    def check(
        self,
        principal: Principal,
        permission: str,
        resource: Mapping[str, Any],
        user: Mapping[str, Any] | None = None,
    ) -> None:
        """``allows``, or:

        Raises:
            AuthorizationError
        """
        if not self.allows(principal, permission, resource, user):
            raise AuthorizationError

    def decider(
        self, principal: Principal, permission: str, user: Mapping[str, Any] | None = None
    ) -> Decider:
        """``allows`` for many resources of one caller at one moment; keep it no longer than that,
        and in one thread."""
        if permission not in principal.permissions:
            return lambda _resource: False
        sources = principal.conditions.get(permission)
        if sources is None:
            return lambda _resource: True
        return self._decider(principal, permission, sources, user)

    def _decider(
        self,
        principal: Principal,
        permission: str,
        sources: Sequence[str],
        user: Mapping[str, Any] | None,
    ) -> Decider:
        held = [h for source in sources if (h := self._held(source, principal, permission, user))]
        if len(held) == 1:
            (only,) = held
            return lambda resource: self._holds(only, resource)
        return lambda resource: any(self._holds(each, resource) for each in held)

    def _variables(
        self,
        condition: Condition,
        principal: Principal,
        permission: str,
        user: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Only what is needed: conversion to CEL is most of the cost."""
        variables: dict[str, Any] = {}
        if "user" in condition.needs:
            own = {"id": principal.user_id, "tenantId": principal.tenant_id, "roles": list(principal.roles)}
            variables["user"] = _project({**(user or {}), **own}, condition.user_fields)
        if "action" in condition.needs:
            variables["action"] = permission.rpartition(".")[2]
        if "tenant" in condition.needs:
            variables["tenant"] = {"id": principal.tenant_id}
        if "now" in condition.needs:
            variables["now"] = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return variables

    def _held(
        self, source: str, principal: Principal, permission: str, user: Mapping[str, Any] | None
    ) -> _Held | None:
        condition = compiled(source)
        if isinstance(condition, ConditionError):
            self._report(source, str(condition))
            return None
        try:
            context = cel.Context(self._variables(condition, principal, permission, user))
        except Exception as error:  # noqa: BLE001 - attributes that are no CEL values: denied
            self._report(source, type(error).__name__)
            return None
        return _Held(source, condition, context)

    def _holds(self, held: _Held, resource: Mapping[str, Any]) -> bool:
        source, condition, context = held
        try:
            if "resource" in condition.needs:
                context.add_variable("resource", _project(resource, condition.resource_fields))
            result = condition.evaluate(context)
        except Exception as error:  # noqa: BLE001 - whatever fails while deciding: denied
            self._report(source, type(error).__name__)
            return False
        if not isinstance(result, bool):
            self._report(source, "is not a boolean")
            return False
        return result

    def _report(self, source: str, reason: str) -> None:
        """Once per source: a broken condition is met with every request."""
        if source in self._reported or len(self._reported) >= _REPORTED_LIMIT:
            return
        self._reported.add(source)
        _log.warning("condition does not decide", source=source, reason=reason)
