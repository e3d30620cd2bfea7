"""Notices belong to one person, announcements reach only whom their sender may address, and whatever is
written is text."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from tests.support.platform import Answer, People, Person, eventually

INBOX = "/api/notifications"
ANNOUNCE = INBOX + "/announcements"


def _news(**change: Any) -> dict[str, Any]:
    return {"title": "秋游", "body": "周五去植物园。", "audience": "class:class_sun_01", **change}


def _mother(people: People) -> Person:
    return people("jiazhang", "tenant_sunshine")


def _announced(people: People) -> tuple[str, str]:
    """An announcement to the mother's class, and her own copy of it."""
    answer = people("laoshi").post(ANNOUNCE, _news(title=f"通知 {secrets.token_hex(4)}"))
    assert answer.status == 201
    id_ = answer.data["id"]
    return id_, _copy(_mother(people), id_)


def _copy(person: Person, announcement_id: str) -> str:
    found: str = eventually(
        lambda: next(
            (n["id"] for n in person.inbox() if n["data"].get("announcementId") == announcement_id), None
        )
    )
    return found


def _titles(person: Person) -> set[str]:
    return {notice["title"] for notice in person.inbox()}


# -- other people's notices -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "tenant"),
    [
        ("jiazhang2", None),
        ("laoshi", None),
        ("yuanzhang", None),
        ("baojian", None),
        ("yuanzhang2", None),
        ("laoshi2", None),
        # The same person, in the other kindergarten.
        ("jiazhang", "tenant_star"),
    ],
)
def test_another_persons_notice_does_not_exist(people: People, username: str, tenant: str | None) -> None:
    _, notice = _announced(people)
    other = people(username, tenant)
    for method, path in (("POST", "read"), ("GET", "receipts")):
        answer = other.call(method, f"{INBOX}/{notice}/{path}")
        assert (answer.status, answer.body["error"]["code"]) == (404, "NOT_FOUND")
        made_up = other.call(method, f"{INBOX}/notification_{'0' * 32}/{path}")
        assert answer.body["message"] == made_up.body["message"], "whether it exists is nobody's business"
    [mine] = [n for n in _mother(people).inbox() if n["id"] == notice]
    assert mine["readAt"] is None
    assert notice not in {n["id"] for n in other.inbox()}


def test_the_operator_has_no_inbox(people: People) -> None:
    announcement, notice = _announced(people)
    admin = people("admin")
    assert admin.get(INBOX).status == 403
    assert admin.post(f"{INBOX}/{notice}/read").status == 403
    assert admin.get(f"{INBOX}/{announcement}/receipts").status == 404


@pytest.mark.parametrize(
    ("username", "status"),
    [("laoshi", 200), ("yuanzhang", 200), ("jiazhang2", 404), ("baojian", 404), ("yuanzhang2", 404)],
)
def test_only_its_sender_and_the_principal_see_whom_an_announcement_reached(
    people: People, username: str, status: int
) -> None:
    announcement, _ = _announced(people)
    assert people(username).get(f"{INBOX}/{announcement}/receipts").status == status


@pytest.mark.parametrize("id_", ["%00", "..", "%2e%2e%2fannouncements", "x" * 2000, "' OR '1'='1", "%ff"])
@pytest.mark.parametrize(("method", "path"), [("POST", "read"), ("GET", "receipts")])
def test_an_id_that_is_none_of_ours_is_not_found(people: People, id_: str, method: str, path: str) -> None:
    answer = _mother(people).call(method, f"{INBOX}/{id_}/{path}")
    assert answer.status in (400, 404, 405), answer.body
    assert answer.body["success"] is False


@pytest.mark.parametrize(
    "query", ["userId=user_jiazhang2", "user_id=user_jiazhang2", "tenantId=tenant_star", "userId=*"]
)
def test_no_parameter_opens_another_inbox(people: People, query: str) -> None:
    mother = _mother(people)
    _announced(people)
    answer = mother.get(f"{INBOX}?limit=200&{query}")
    if answer.status == 200:
        assert {n["id"] for n in answer.data["items"]} <= {n["id"] for n in mother.inbox()}
    else:
        assert answer.status == 400


def test_a_cursor_of_another_list_or_person_opens_nothing(people: People) -> None:
    for _ in range(2):
        announcement, _ = _announced(people)
    cursor = _mother(people).get(f"{INBOX}?limit=1").data["nextCursor"]
    assert cursor
    other = people("jiazhang2")
    page = other.get(f"{INBOX}?limit=200&cursor={cursor}")
    assert {n["id"] for n in page.data["items"]} <= {n["id"] for n in other.inbox()}
    assert people("laoshi").get(f"{INBOX}/{announcement}/receipts?cursor={cursor}").status == 400


# -- audiences --------------------------------------------------------------------------------------

AUDIENCES = [
    ("laoshi", "class:class_sun_01", 201),
    ("laoshi", "class:class_sun_04", 403),
    ("laoshi", "tenant", 403),
    ("laoshi", "staff", 403),
    ("laoshi", "class:class_star_01", 404),
    ("laoshi2", "class:class_sun_01", 404),
    ("yuanzhang", "class:class_star_01", 404),
    ("yuanzhang2", "class:class_sun_01", 404),
    ("yuanzhang", "class:class_none", 404),
    ("baojian", "class:class_sun_01", 403),
    ("jiazhang2", "class:class_sun_01", 403),
    ("jiazhang2", "tenant", 403),
    ("jiazhang2", "staff", 403),
    ("admin", "tenant", 403),
]


@pytest.mark.parametrize(("username", "audience", "status"), AUDIENCES)
def test_each_role_addresses_only_its_own_audience(
    people: People, username: str, audience: str, status: int
) -> None:
    title = f"通知 {secrets.token_hex(4)}"
    answer = people(username).post(ANNOUNCE, _news(audience=audience, title=title))
    assert answer.status == status, answer.body
    if status != 201:
        watching = (_mother(people), people("jiazhang2"), people("yuanzhang"), people("yuanzhang2"))
        assert all(title not in _titles(person) for person in watching)


def test_an_announcement_to_a_class_stays_in_it(people: People) -> None:
    title = f"通知 {secrets.token_hex(4)}"
    assert people("yuanzhang").post(ANNOUNCE, _news(title=title)).status == 201
    eventually(lambda: title in _titles(people("jiazhang2")))
    assert title in _titles(people("laoshi"))
    for username in ("baojian", "yuanzhang2", "laoshi2"):
        assert title not in _titles(people(username))
    assert title not in _titles(people("jiazhang", "tenant_star"))


def test_a_header_does_not_carry_an_announcement_to_another_kindergarten(people: People) -> None:
    headers = {"x-tenant-id": "tenant_star"}
    assert people("yuanzhang").post(ANNOUNCE, _news(audience="tenant"), headers=headers).status == 403


def test_somebody_elses_idempotency_key_gives_nothing_away(people: People) -> None:
    key = {"idempotency-key": secrets.token_hex(8)}
    first = people("laoshi").post(ANNOUNCE, _news(), headers=key)
    assert first.status == 201
    again = people("laoshi").post(ANNOUNCE, _news(), headers=key)
    assert (again.status, again.data["id"], again.data["duplicate"]) == (200, first.data["id"], True)
    assert people("laoshi").post(ANNOUNCE, _news(body="别的"), headers=key).status == 409
    other = people("yuanzhang").post(ANNOUNCE, _news(), headers=key)
    assert other.status == 201
    assert other.data["id"] != first.data["id"]
    assert people("jiazhang2").post(ANNOUNCE, _news(), headers=key).status == 403


# -- what is written --------------------------------------------------------------------------------

TEXTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "NUL": ({"title": "秋\0游", "body": "周五\0"}, {"title", "body"}),
    "escape sequence": ({"body": "\x1b[2J周五"}, {"body"}),
    "carriage return": ({"title": "秋游\r\nBcc: x@example.org"}, {"title"}),
    "C1 control": ({"body": "周五\x9b31m"}, {"body"}),
    "delete": ({"title": "秋\x7f游"}, {"title"}),
    "blank": ({"title": " ", "body": "\n\t\n"}, {"title", "body"}),
    "title too long": ({"title": "题" * 101}, {"title"}),
    "body too long": ({"body": "文" * 10_000}, {"body"}),
    "title is a number": ({"title": 5}, {"title"}),
    "body is a list": ({"body": ["周五"]}, {"body"}),
    "no such audience": ({"audience": "everyone"}, {"audience"}),
    "two audiences": ({"audience": "class:class_sun_01,class:class_sun_02"}, {"audience"}),
    "audience and a line": ({"audience": "tenant\n"}, {"audience"}),
    "audience of nothing": ({"audience": "class:"}, {"audience"}),
    "foreign sender": ({"senderId": "user_yuanzhang"}, {"senderId"}),
    "foreign tenant": ({"tenantId": "tenant_star"}, {"tenantId"}),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_a_bad_announcement_is_explained_and_told_to_nobody(people: People, name: str, language: str) -> None:
    change, fields = TEXTS[name]
    before = len(_mother(people).inbox())
    answer = people("yuanzhang").post(ANNOUNCE, _news(**change), headers={"accept-language": language})
    assert answer.status == answer.body["code"] == 400
    details = answer.body["error"]["details"]
    assert {detail["field"] for detail in details} == fields
    for text in [answer.body["message"], *(detail["message"] for detail in details)]:
        assert any("\u4e00" <= c <= "\u9fff" for c in text) == (language == "zh-CN"), text
    assert len(_mother(people).inbox()) == before


LITERAL = [
    "<script>alert(1)</script>",
    "{studentName} {0.__class__}",
    "%s %n {{7*7}} ${7*7}",
    "'; DROP TABLE notifications; --",
    "第一行\n\t第二行 👨‍👩‍👧",
    "文" * 5000,
]


@pytest.mark.parametrize("body", LITERAL, ids=range(len(LITERAL)))
def test_what_is_written_arrives_as_it_was_written(people: People, body: str) -> None:
    answer = people("laoshi").post(ANNOUNCE, _news(body=body))
    assert answer.status == 201
    mother = _mother(people)
    notice = _copy(mother, answer.data["id"])
    assert [n["body"] for n in mother.inbox() if n["id"] == notice] == [body]


@pytest.mark.parametrize("key", ["a b", "", "x" * 65, "键", "a\tb"])
def test_a_bad_idempotency_key_is_refused(people: People, key: str) -> None:
    answer: Answer = people("laoshi").post(ANNOUNCE, _news(), headers={"idempotency-key": key.encode()})
    assert answer.status == 400
