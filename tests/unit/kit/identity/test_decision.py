from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.errors import AuthorizationError
from yuanlian.kit.identity.decision import MAX_SOURCE, Authorizer, Condition, ConditionError
from yuanlian.kit.identity.principal import Principal

CLOCK = ManualClock(1_790_000_000_000)  # 2026-09-21T14:13:20Z
CHILD = {"id": "s1", "classId": "c1"}
TIES = {"classIds": ["c1", "c2"], "studentIds": ["s1"]}


def holder(*conditions: str, permission: str = "student.read") -> Principal:
    held = {permission: conditions} if conditions else {}
    return Principal("user_1", "tenant_1", ("teacher",), frozenset({permission}), held)


def decide(condition: str, resource: Any = CHILD, user: Any = TIES) -> bool:
    return Authorizer(CLOCK).allows(holder(condition), "student.read", resource, user)


def test_a_permission_without_a_condition_holds_for_everything() -> None:
    assert Authorizer(CLOCK).allows(holder(), "student.read", {}, None)


def test_a_permission_that_is_not_held_never_holds() -> None:
    assert not Authorizer(CLOCK).allows(holder("true"), "student.write", CHILD, TIES)
    with pytest.raises(AuthorizationError):
        Authorizer(CLOCK).check(holder(), "student.write", CHILD)


def test_a_condition_without_its_permission_grants_nothing() -> None:
    principal = Principal("u", "t", (), frozenset(), {"student.read": ("true",)})
    assert not Authorizer(CLOCK).allows(principal, "student.read", CHILD, TIES)


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        ("resource.classId in user.classIds", True),
        ("resource.id in user.studentIds", True),
        ("!(resource.classId in user.classIds)", False),
        ("resource['classId'] in user['classIds']", True),
        ("user.id == 'user_1' && user.tenantId == 'tenant_1'", True),
        ("'teacher' in user.roles", True),
        ("tenant.id == 'tenant_1'", True),
        ("action == 'read'", True),
        ("now < timestamp('2026-09-22T00:00:00Z')", True),
        ("now.getHours() == 14 && (now + duration('8h')).getHours() == 22", True),
        ("has(user.classIds) && !has(user.absent)", True),
        ("size(user.classIds) == 2", True),
        ("size(user) > 0 && size(resource) == 2", True),
    ],
)
def test_conditions_see_all_five_variables(condition: str, held: bool) -> None:
    assert decide(condition) is held


def test_any_of_several_conditions_suffices() -> None:
    authorizer = Authorizer(CLOCK)
    two = holder("resource.id == 'nope'", "resource.id == 's1'")
    assert authorizer.allows(two, "student.read", CHILD, TIES)
    broken_first = holder("][", "resource.id == 's1'")
    assert authorizer.allows(broken_first, "student.read", CHILD, TIES)


def test_an_empty_list_of_conditions_denies() -> None:
    principal = Principal("u", "t", (), frozenset({"student.read"}), {"student.read": ()})
    assert not Authorizer(CLOCK).allows(principal, "student.read", CHILD, TIES)


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "][",
        "resource.classId in",
        "unknown == 1",
        "resource.absent == 's1'",
        "user.classIds[99] == 'c1'",
        "1",
        "'true'",
        "user.classIds",
        "1 / 0 == 1",
        "9223372036854775807 + 1 > 0",
        "'a'.matches('(')",
        "resource.id.nope()",
        "null",
        "true //" + "x" * MAX_SOURCE,
        "(" * 400,
        "[1, 2].all(user, [1, 2].all(now, true))",
        "true\n",
    ],
)
def test_malformed_failing_and_non_boolean_conditions_deny(condition: str) -> None:
    assert decide(condition) is False


@pytest.mark.parametrize("value", [{1, 2}, object(), {"x": object()}])
def test_values_that_are_none_of_cel_deny(value: object) -> None:
    assert decide("user.classIds == user.classIds", user={"classIds": value}) is False
    assert decide("resource.id == resource.id", resource={"id": value}) is False


def test_attributes_cannot_replace_who_the_user_is() -> None:
    forged = {"id": "somebody", "tenantId": "elsewhere", "roles": ["principal"]}
    assert not decide("user.id == 'somebody'", user=forged)
    assert not decide("'principal' in user.roles", user=forged)


def test_a_broken_condition_is_logged_once() -> None:
    authorizer = Authorizer(CLOCK)
    with capture_logs() as logs:
        for _ in range(5):
            assert not authorizer.allows(holder("1 +"), "student.read", CHILD, TIES)
            assert not authorizer.allows(holder("resource.absent"), "student.read", CHILD, TIES)
    assert [entry["source"] for entry in logs] == ["1 +", "resource.absent"]


def test_a_decider_decides_like_allows_for_each_resource() -> None:
    authorizer = Authorizer(CLOCK)
    for principal in (holder(), holder("resource.classId in user.classIds"), holder("][")):
        decider = authorizer.decider(principal, "student.read", TIES)
        for class_id in ("c1", "c9", "c2"):
            resource = {"id": "s", "classId": class_id}
            assert decider(resource) is authorizer.allows(principal, "student.read", resource, TIES)
        assert not authorizer.decider(principal, "student.write", TIES)(CHILD)


def test_threads_may_share_an_authorizer() -> None:
    authorizer = Authorizer(CLOCK)
    results: list[bool] = []

    def work(class_id: str) -> None:
        principal = holder("resource.classId in user.classIds")
        resource = {"classId": class_id}
        results.extend(authorizer.allows(principal, "student.read", resource, TIES) for _ in range(200))

    threads = [threading.Thread(target=work, args=(c,)) for c in ("c1", "c2", "c1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 600


@given(st.text(max_size=60))
def test_no_text_is_a_condition_that_raises(source: str) -> None:
    assert decide(source) in (True, False)


@given(st.text(alphabet="user.resource()[]!&|<>='\"in 0_", max_size=40))
def test_nothing_like_a_condition_raises(source: str) -> None:
    assert decide(source) in (True, False)


def test_reading_only_the_fields_a_condition_names_changes_no_decision() -> None:
    for source in (
        "size(user) == 3 || 'classIds' in user",
        "user == user",
        "user['classIds'][0] == 'c1'",
        "has(user.classIds) && 'studentIds' in user",
    ):
        assert decide(source), source


def test_a_condition_says_why_it_is_none() -> None:
    for source, reason in (("nope == 1", "nope"), ("(", "CEL"), ("x" * 501, "longer")):
        with pytest.raises(ConditionError, match=reason):
            Condition(source)
