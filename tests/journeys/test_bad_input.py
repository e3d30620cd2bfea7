"""Every input is hostile: the right code, a reason for each field in both languages, nothing written,
nothing leaked, never a 5xx."""

from __future__ import annotations

import base64
import io
import json
import socket
import time
import zipfile
from typing import Any

import pytest
from tests.support.platform import Answer, People, Person, Platform

EVENTS = "/api/tenant/attendance/events"
IMPORT = "/api/tenant/students/import"
NOW = int(time.time() * 1000)


def _good(**change: Any) -> dict[str, Any]:
    return {"studentId": "student_sun_005", "type": "check_in", **change}


def _raw(person: Person, body: bytes, path: str = EVENTS, content_type: str = "application/json") -> Answer:
    return person.call("POST", path, headers={"content-type": content_type}, content=body)


def _state(people: People) -> tuple[Any, ...]:
    principal = people("yuanzhang")
    history = principal.get(f"{EVENTS}?studentId=student_sun_005").data["items"]
    return len(history), principal.get("/api/tenant/students?limit=1").data["total"]


BODIES = {
    "malformed JSON": (b'{"data": {', 400, ""),
    "no JSON": (b"\xff\xfe\x00", 400, ""),
    "empty": (b"", 400, ""),
    "not an object": (b"[]", 400, ""),
    "no data": (b'{"meta": {}}', 400, "data"),
    "data is null": (b'{"data": null}', 400, "data"),
    "wrong type": (json.dumps({"data": _good(studentId=5)}).encode(), 400, "studentId"),
    "unknown field": (json.dumps({"data": _good(surprise=1)}).encode(), 400, "surprise"),
    "unknown field outside data": (json.dumps({"data": _good(), "x": 1}).encode(), 400, "x"),
    "unknown type": (json.dumps({"data": _good(type="fly")}).encode(), 400, "type"),
    "unknown student": (json.dumps({"data": _good(studentId="nobody")}).encode(), 404, "studentId"),
    "future": (json.dumps({"data": _good(occurredAt=NOW + 86_400_000)}).encode(), 400, "occurredAt"),
    "far future": (json.dumps({"data": _good(occurredAt=2**62)}).encode(), 400, "occurredAt"),
    "beyond 64 bits": (b'{"data":{"studentId":"s","type":"check_in","occurredAt":1e400}}', 400, None),
    "long ago": (json.dumps({"data": _good(occurredAt=0)}).encode(), 400, "occurredAt"),
    "negative time": (json.dumps({"data": _good(occurredAt=-1)}).encode(), 400, "occurredAt"),
    "temperature of 60": (json.dumps({"data": _good(temperature=60)}).encode(), 400, "temperature"),
    "temperature is NaN": (b'{"data":{"studentId":"s","type":"check_in","temperature":NaN}}', 400, None),
    "by without name": (json.dumps({"data": _good(by={})}).encode(), 400, "by.name"),
    "long note": (json.dumps({"data": _good(note="x" * 501)}).encode(), 400, "note"),
    "bad event id": (json.dumps({"data": _good(eventId="a b")}).encode(), 400, "eventId"),
    "deep nesting": (b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, None),
    "invalid UTF-8 in a string": (b'{"data":{"studentId":"\xff","type":"check_in"}}', 400, ""),
    "invalid UTF-8 in a key": (b'{"data":{"\xff":1}}', 400, ""),
    "a final line break": (json.dumps({"data": _good(eventId="e\n")}).encode(), 400, "eventId"),
    "control characters": (json.dumps({"data": _good(note="a\u0000b")}).encode(), 400, "note"),
    "lone surrogate": (b'{"data":{"studentId":"\\ud800","type":"check_in"}}', 400, None),
    "2 MiB": (b'{"data": {"note": "' + b"x" * (2 << 20) + b'"}}', 413, None),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_a_bad_event_is_explained_and_not_written(people: People, name: str, language: str) -> None:
    body, status, field = BODIES[name]
    teacher = people("laoshi")
    before = _state(people)
    teacher.headers = {"accept-language": language}
    answer = _raw(teacher, body)
    teacher.headers = {}
    assert answer.status == answer.body["code"] == status
    assert answer.body["success"] is False
    assert answer.body["meta"]["requestId"] == answer.headers["x-request-id"]
    details = answer.body["error"]["details"]
    if field is not None:
        assert field in [detail["field"] for detail in details], details
    for text in [answer.body["message"], *(detail["message"] for detail in details)]:
        assert any("\u4e00" <= c <= "\u9fff" for c in text) == (language == "zh-CN"), text
    assert _state(people) == before


def _cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


QUERIES = [
    (f"{EVENTS}?cursor={_cursor('attendance.events', 10**30, 'x')}", 400),
    (f"{EVENTS}?cursor={_cursor('attendance.events', -(2**63) - 1, 'x')}", 400),
    (f"{EVENTS}?cursor={_cursor('students', 'x')}", 400),
    (f"{EVENTS}?cursor={_cursor()}", 400),
    (
        f"/api/tenant/attendance/days?from=2026-11-01&to=2026-11-24"
        f"&cursor={_cursor('attendance.days', 'x', 'y')}",
        400,
    ),
    (f"/api/tenant/students?cursor={_cursor('classes', 'x')}", 400),
    (f"/api/auth/users?cursor={_cursor('students', 'x')}", 400),
    (f"/api/notifications?cursor={_cursor('students', 'x')}", 400),
    ("/api/tenant/attendance/board?date=0001-01-01", 400),
    ("/api/tenant/attendance/board?date=9999-12-31", 400),
    (f"{EVENTS}?from=9999-12-31&to=9999-12-31", 400),
    (f"{EVENTS}?from=999999999999999", 200),
    ("/api/tenant/students?q=%00", 200),
    ("/api/tenant/attendance/board?date=2099-01-01", 400),
    ("/api/tenant/attendance/board?date=tomorrow", 400),
    ("/api/tenant/attendance/board?classId=class_none", 404),
    ("/api/tenant/students?limit=0", 400),
    ("/api/tenant/students?limit=1000", 400),
    ("/api/tenant/students?cursor=%00%ff", 400),
    ("/api/tenant/students/nobody", 404),
    (f"{EVENTS}?from=yesterday", 400),
    (f"{EVENTS}?cursor=bm9wZQ", 400),
    ("/api/analytics/attendance/daily?from=2026-11-24&to=2026-11-01", 400),
    ("/api/analytics/attendance/daily", 400),
    ("/api/nothing", 404),
    ("/api/tenant/nothing", 404),
]


@pytest.mark.parametrize(("path", "status"), QUERIES)
def test_a_bad_question_gets_a_clear_answer(people: People, path: str, status: int) -> None:
    principal = people("yuanzhang")
    for language in ("zh-CN", "en"):
        answer = principal.get(path, headers={"accept-language": language})
        assert (answer.status, answer.body["code"]) == (status, status), answer.body
        if status == 200:
            return
        details = answer.body["error"]["details"]
        assert details or status == 404
        for text in [answer.body["message"], *(detail["message"] for detail in details)]:
            assert any("\u4e00" <= c <= "\u9fff" for c in text) == (language == "zh-CN"), text


@pytest.mark.parametrize("host", [b"\xff\xfe", b'a"b;c=', b"http://[::1", b"a b", b"", b"a\x00b"])
@pytest.mark.parametrize("path", ["/api/auth/login", "/api/tenant/students", "/healthz"])
def test_a_host_that_is_none_is_a_bad_request(platform: Platform, host: bytes, path: str) -> None:
    port = int(platform.public.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path.encode(), host))
        head = connection.recv(65536)
    assert head.startswith(b"HTTP/1.1 400 "), head[:200]
    assert b'"success":false' in head


@pytest.mark.parametrize("body", [b'{"data":{"username":"\xff","password":"x"}}', b"\xff", b'"\xff"'])
def test_a_login_that_is_no_text_is_a_bad_request(people: People, body: bytes) -> None:
    answer = people.http.post("/api/auth/login", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]


def test_a_class_that_does_not_exist_is_named_in_the_body(people: People) -> None:
    answer = people("yuanzhang").post(
        "/api/tenant/students",
        {"name": "测试", "gender": "male", "birthDate": "2022-01-01", "classId": "class_none"},
    )
    assert answer.status == 400
    assert [d["field"] for d in answer.body["error"]["details"]] == ["classId"]


def test_a_wrong_method_says_which_are_right(people: People) -> None:
    answer = people("yuanzhang").call("PUT", "/api/tenant/students")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


def _zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", b"\0" * (80 << 20))
    return out.getvalue()


XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HEAD = "姓名,性别,出生日期,班级\n"
FILES = {
    "an .xlsx that is not one": (b"PK\x03\x04 no zip", XLSX),
    "an .xlsx that is text": (b"hello", XLSX),
    "an empty zip": (b"PK\x05\x06" + b"\0" * 18, XLSX),
    "a zip bomb": (_zip_bomb(), XLSX),
    "an empty CSV": (b"", "text/csv"),
    "only a header": (HEAD.encode(), "text/csv"),
    "no such column": ("姓名,星座\n张三,狮子\n".encode(), "text/csv"),
    "a broken quote": ((HEAD + '"张三,男,2022-01-01,小一班\n').encode(), "text/csv"),
    "a wrong date": ((HEAD + "张三,男,2022-13-01,小一班\n").encode(), "text/csv"),
    "an unknown class": ((HEAD + "张三,男,2022-01-01,火箭班\n").encode(), "text/csv"),
    "bytes of no encoding": (b"\xff\xff\xff\xff", "text/csv"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_whole(people: People, name: str) -> None:
    content, content_type = FILES[name]
    before = _state(people)
    answer = _raw(people("yuanzhang"), content, IMPORT, content_type)
    assert answer.status in (400, 413), answer.body
    assert answer.body["error"]["details"] or answer.status == 413
    assert _state(people) == before


def test_a_dry_run_reports_each_row_and_writes_nothing(people: People) -> None:
    content = (HEAD + "好孩子,女,2022-05-01,小一班\n坏孩子,x,2099-01-01,火箭班\n").encode()
    before = _state(people)
    answer = _raw(people("yuanzhang"), content, IMPORT + "?dryRun=true", "text/csv")
    assert answer.status == 200
    assert answer.data["valid"] == 1
    assert {error["row"] for error in answer.data["errors"]} == {3}
    assert {error["field"] for error in answer.data["errors"]} >= {"gender", "birthDate", "class"}
    assert _state(people) == before
