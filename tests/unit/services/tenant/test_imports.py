"""Children from a spreadsheet: everything wrong is told per row, and all rows are taken or none."""

from __future__ import annotations

import io
import threading
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from tests.unit.services.tenant.roster_world import Answer, World, head, mother, run, teacher

from yuanlian.kit.identity.principal import Principal
from yuanlian.services.tenant.imports.routes import XLSX
from yuanlian.services.tenant.imports.table import MAX_ROWS, read_table
from yuanlian.services.tenant.roster.models import Guardian, Guardianship, Student

HEADER = "姓名,性别,出生日期,班级,家长姓名,家长电话,关系\n"
TWO = HEADER + "小红,女,2022-05-01,1班,红妈,13911110000,妈妈\n小绿,男,2022/6/2,class_a2,,,\n"


async def upload(
    world: World,
    content: str | bytes,
    *,
    who: Any = None,
    kind: str = "text/csv; charset=utf-8",
    query: str = "",
    language: str = "zh",
) -> Answer:
    body = content.encode() if isinstance(content, str) else content
    headers = {"content-type": kind, "accept-language": language}
    ask = world.as_(who or head("a"))
    return await ask("POST", f"/students/import{query}", body=body, headers=headers)


def sheet(*rows: list[Any]) -> bytes:
    workbook = Workbook()
    for row in rows:
        workbook.worksheets[0].append(row)
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def archive(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in parts.items():
            made.writestr(name.replace("__", "/"), content)
    return file.getvalue()


CHINESE = ["姓名", "性别", "出生日期", "班级", "家长姓名", "家长电话", "关系"]
ENGLISH = ["Name", "gender", "birthDate", "class", "guardianName", "guardianPhone", "relation"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_csv_of_any_usual_encoding_is_taken(tmp_path: Path, encoding: str) -> None:
    async def scenario(world: World) -> None:
        answer = await upload(world, TWO.encode(encoding))
        assert (answer.status, answer.data["created"]) == (201, 2)
        assert await world.count(Student, name="小红", class_id="class_a1", gender="female") == 1
        assert await world.count(Student, name="小绿", class_id="class_a2", birth_date=date(2022, 6, 2)) == 1
        assert await world.count(Guardian, name="红妈", phone="13911110000", tenant_id="a") == 1
        assert await world.count(Guardianship, relation="妈妈") == 1
        assert await world.count(Student, tenant_id="b") == 6

    run(tmp_path, scenario)


@pytest.mark.parametrize("titles", [CHINESE, ENGLISH])
def test_a_workbook_is_taken_as_a_person_typed_it(tmp_path: Path, titles: list[str]) -> None:
    async def scenario(world: World) -> None:
        content = sheet(
            titles,
            ["小红", "女", datetime(2022, 5, 1), "1班", "红妈", 13911110000, "妈妈"],
            [None] * 7,
            ["小绿", "男", "2022年6月2日", "2班", None, None, None],
        )
        answer = await upload(world, content, kind=XLSX)
        assert (answer.status, answer.data["created"]) == (201, 2)
        assert await world.count(Guardian, phone="13911110000") == 1
        assert await world.count(Student, name="小绿", birth_date=date(2022, 6, 2)) == 1

    run(tmp_path, scenario)


def test_a_form_is_taken_too(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        files = {"file": ("children.csv", TWO.encode(), "application/vnd.ms-excel")}
        assert (await ask("POST", "/students/import", files=files)).data["created"] == 2
        missing = await ask("POST", "/students/import", files={"other": ("x.csv", b"x", "text/csv")})
        assert (missing.status, set(missing.details)) == (400, {"file"})
        broken = await upload(world, "no form", kind="multipart/form-data; boundary=x")
        assert (broken.status, broken.details) == (400, {"file": "表单格式不正确"})

    run(tmp_path, scenario)


def test_a_dry_run_reports_and_writes_nothing(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        good = await upload(world, TWO, query="?dryRun=true")
        assert (good.status, good.data) == (200, {"rows": 2, "valid": 2, "created": 0, "errors": []})
        bad = await upload(world, TWO + "小蓝,男,2099-01-01,9班,,,\n", query="?dryRun=true")
        assert (bad.data["rows"], bad.data["valid"]) == (3, 2)
        assert bad.data["errors"] == [
            {"row": 4, "field": "birthDate", "message": "不能是将来的日期"},
            {"row": 4, "field": "class", "message": "没有这个班级"},
        ]
        assert await world.count(Student) == 12

    run(tmp_path, scenario)


def test_one_wrong_row_and_nothing_is_written(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await upload(world, TWO + "\n小蓝,男,2022-02-30,1班,,,\n", language="en")
        assert answer.status == 400
        assert answer.details == {"row[5].birthDate": "must be a date such as 2021-09-30"}
        assert await world.count(Student) == 12
        assert await world.count(Guardian, phone="13911110000") == 0

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        (",女,2022-05-01,1班,,,", {"name"}),
        ("小红,?,2022-05-01,1班,,,", {"gender"}),
        ("小红,,,,,,", {"gender", "birthDate", "class"}),
        ("小红,女,2022-05-01,class_b1,,,", {"class"}),
        ("小红,女,2022-05-01,1班,红妈,,妈妈", {"guardianPhone"}),
        ("小红,女,2022-05-01,1班,,13911110000,", {"guardianName", "relation"}),
        ("小红,女,2022-05-01,1班,红妈,123,妈妈", {"guardianPhone"}),
        ("小红,女,2022-05-01,1班,红妈,13800000001,妈妈", {"guardianPhone"}),
        ('"小\x07红",女,2022-05-01,1班,,,', {"name"}),
        ("幼儿0,女,2022-03-01,1班,,,", {"name"}),
    ],
)
def test_what_is_wrong_with_a_row_is_told_per_field(tmp_path: Path, row: str, fields: set[str]) -> None:
    async def scenario(world: World) -> None:
        answer = await upload(world, HEADER + row + "\n")
        assert answer.status == 400
        assert set(answer.details) == {f"row[2].{field}" for field in fields}

    run(tmp_path, scenario)


def test_the_same_child_or_number_twice_in_a_file_is_told(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        rows = "小红,女,2022-05-01,1班,红妈,13911110000,妈妈\n"
        rows += "小红,女,2022-5-1,class_a1,,,\n"
        rows += "小黄,女,2022-05-01,1班,别人,13911110000,妈妈\n"
        answer = await upload(world, HEADER + rows)
        assert answer.details["row[3].name"] == "与第 2 行重复"
        assert set(answer.details) == {"row[3].name", "row[4].guardianPhone"}

    run(tmp_path, scenario)


def test_a_known_guardian_gets_one_child_more_and_connects_again(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        socket = world.connect(mother("a"))
        rows = "小红,女,2022-05-01,2班,mother,138-0000-0001,妈妈\n"
        rows += "小黄,女,2022-05-01,2班,mother,13800000001,妈妈\n"
        assert (await upload(world, HEADER + rows)).status == 201
        assert await world.count(Guardian, tenant_id="a") == 2
        assert len((await world.as_(mother("a"))("GET", "/students")).ids) == 3
        assert socket.closed == [4403]

    run(tmp_path, scenario)


def test_a_teacher_imports_into_the_own_class_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await upload(world, TWO, who=teacher("a"))
        assert (answer.status, set(answer.details)) == (400, {"row[3].class"})
        own = HEADER + "小红,女,2022-05-01,1班,,,\n"
        assert (await upload(world, own, who=teacher("a"))).status == 201
        assert (await upload(world, own, who=mother("a"))).status == 403

    run(tmp_path, scenario)


def registrar(*permissions: str, condition: str = "") -> Principal:
    """Somebody who enrols children, and may do with guardians only what is said here."""
    conditions: dict[str, tuple[str, ...]] = {name: (condition,) for name in permissions if condition}
    return Principal("user_teacher", "a", (), frozenset({"student.write", *permissions}), conditions)


@pytest.mark.parametrize("query", ["", "?dryRun=true"])
@pytest.mark.parametrize(
    "who",
    [
        registrar(),
        registrar("guardian.read"),
        registrar("guardian.write"),
        registrar("guardian.read", "guardian.write", condition="resource.classId == 'class_a2'"),
    ],
)
def test_who_may_not_register_guardians_does_not_import_them_either(
    tmp_path: Path, who: Principal, query: str
) -> None:
    """``student.write`` alone must not decide who hears of a child."""

    async def scenario(world: World) -> None:
        answer = await upload(world, TWO, who=who, query=query, language="en")
        told = answer.details or {
            f"row[{e['row']}].{e['field']}": e["message"] for e in answer.data["errors"]
        }
        refused = "may only be given by who may register guardians of that class"
        assert told == {f"row[2].{f}": refused for f in ("guardianName", "guardianPhone", "relation")}
        assert await world.count(Student) == 12
        assert await world.count(Guardianship) == 4
        children = HEADER + "小红,女,2022-05-01,1班,,,\n"
        assert (await upload(world, children, who=who)).status == 201

    run(tmp_path, scenario)


@pytest.mark.parametrize("who", [registrar(), registrar("guardian.write")])
def test_a_trial_tells_nobody_whose_number_it_is(tmp_path: Path, who: Principal) -> None:
    async def scenario(world: World) -> None:
        answers = set()
        for name, phone in (("mother", "13800000001"), ("别人", "13800000001"), ("别人", "13911112222")):
            row = f"小红,女,2022-05-01,1班,{name},{phone},妈妈\n"
            answer = await upload(world, HEADER + row, who=who, query="?dryRun=true")
            answers.add(str(answer.data))
        assert len(answers) == 1

    run(tmp_path, scenario)


def test_a_registrar_of_a_class_imports_its_guardians(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        who = registrar("guardian.read", "guardian.write", condition="resource.classId in user.classIds")
        assert (await upload(world, TWO, who=who)).status == 201
        assert await world.count(Guardianship) == 5

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("language", "born", "group", "number"),
    [
        ("zh", "不能是将来的日期", "没有这个班级", "应为 11 位手机号，或以 + 开头的国际号码"),
        (
            "en",
            "must not be in the future",
            "is not a class of this kindergarten",
            "must be an 11-digit mobile number, or start with + and a country code",
        ),
    ],
)
def test_rows_are_told_in_the_callers_language(
    tmp_path: Path, language: str, born: str, group: str, number: str
) -> None:
    async def scenario(world: World) -> None:
        rows = HEADER + "小蓝,男,2099-01-01,9班,,,\n小红,女,2022-05-01,1班,红妈,1,妈妈\n"
        trial = await upload(world, rows, query="?dryRun=true", language=language)
        assert [(e["row"], e["field"], e["message"]) for e in trial.data["errors"]] == [
            (2, "birthDate", born),
            (2, "class", group),
            (3, "guardianPhone", number),
        ]
        real = await upload(world, rows, language=language)
        assert real.details == {
            "row[2].birthDate": born,
            "row[2].class": group,
            "row[3].guardianPhone": number,
        }
        twice = HEADER + "小红,女,2022-05-01,1班,,,\n" * 2
        told = (await upload(world, twice, language=language)).details["row[3].name"]
        assert told == {"zh": "与第 2 行重复", "en": "is the same child as in row 2"}[language]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ("", {"file"}),
        (HEADER, {"file"}),
        ("姓名,性别\n小红,女\n", {"row[1].birthDate", "row[1].class"}),
        (HEADER.replace("关系", "备注") + "小红,女,2022-05-01,1班,,,\n", {"row[1].备注"}),
        (HEADER.replace("关系", "姓名") + "小红,女,2022-05-01,1班,,,\n", {"row[1].name"}),
        (HEADER + "小红,女,2022-05-01,1班,,,,多\n", {"row[2]"}),
        (HEADER + '"小红,女\n', {"file"}),
        (HEADER.encode("utf-16"), {"file"}),
        (b"\xff\xfe\xfd\x80", {"file"}),
    ],
)
def test_a_broken_csv_is_refused_with_the_reason(
    tmp_path: Path, content: str | bytes, fields: set[str]
) -> None:
    async def scenario(world: World) -> None:
        for query in ("", "?dryRun=true"):
            answer = await upload(world, content, query=query)
            assert (answer.status, set(answer.details)) == (400, fields)

    run(tmp_path, scenario)


WORKBOOK_PARTS = {"xl__workbook.xml": b"<workbook/>"}
TYPES = b'<Types><Override ContentType="application/x.sheet.main+xml"/></Types>'
MACRO_TYPES = b'<Types><Override ContentType="application/vnd.ms-excel.sheet.macroEnabled.main+xml"/></Types>'
BOMB = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><workbook>&a;</workbook>'


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (TWO.encode(), XLSX, "is not an .xlsx workbook"),
        (b"PK\x03\x04 no zip", "text/csv", "is not an .xlsx workbook"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old",
            "application/vnd.ms-excel",
            "is an .xls workbook; save it as .xlsx",
        ),
        (archive(a=b"x"), XLSX, "is not an .xlsx workbook"),
        (archive(**WORKBOOK_PARTS, **{"[Content_Types].xml": TYPES}), XLSX, "is not an .xlsx workbook"),
        (
            archive(**WORKBOOK_PARTS, **{"[Content_Types].xml": MACRO_TYPES}),
            XLSX,
            "must not contain macros",
        ),
        (
            archive(**WORKBOOK_PARTS, **{"[Content_Types].xml": TYPES}, **{"xl__vbaProject.bin": b"x"}),
            XLSX,
            "must not contain macros",
        ),
        (
            archive(**{"xl__workbook.xml": BOMB, "[Content_Types].xml": TYPES}),
            XLSX,
            "is not an .xlsx workbook",
        ),
        (b"{}", "application/json", "must be CSV (text/csv) or an .xlsx workbook"),
    ],
)
def test_what_is_no_workbook_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, kind: str, message: str
) -> None:
    async def scenario(world: World) -> None:
        answer = await upload(world, content, kind=kind, language="en")
        assert (answer.status, answer.details) == (400, {"file": message})

    run(tmp_path, scenario)


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        parts = {"xl__workbook.xml": b"x", "[Content_Types].xml": TYPES}
        bomb = archive(**parts, xl__huge=bytes(51 * 1024 * 1024))
        assert (await upload(world, bomb, kind=XLSX)).status == 413

    run(tmp_path, scenario)


def test_five_thousand_rows_are_taken_and_one_more_is_not(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        rows = [f"孩子{n},女,2022-05-01,1班,家长{n},139{n:08},妈妈\n" for n in range(MAX_ROWS + 1)]
        assert (await upload(world, HEADER + "".join(rows))).details.keys() == {"file"}
        assert (await upload(world, HEADER + "".join(rows[:MAX_ROWS]))).data["created"] == MAX_ROWS
        assert await world.count(Guardianship, tenant_id="a") == MAX_ROWS + 2

    run(tmp_path, scenario)


def test_files_are_read_off_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread())
        return read_table(*args, **kwargs)

    monkeypatch.setattr("yuanlian.services.tenant.imports.service.read_table", watched)

    async def scenario(world: World) -> None:
        await upload(world, TWO)
        assert threads
        assert threading.main_thread() not in threads

    run(tmp_path, scenario)
