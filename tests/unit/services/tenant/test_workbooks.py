"""An .xlsx is a zip of XML from a stranger: it is read as people write it, and never costs more than
it is worth."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from tests.unit.services.tenant.roster_world import World, head, run
from tests.unit.services.tenant.workbooks import RELATIONS, forged, saved, typed

from yuanlian.kit.errors import AppError, PayloadTooLargeError, ValidationError
from yuanlian.services.tenant.imports.archive import CHUNK, MAX_UNPACKED, SMALL
from yuanlian.services.tenant.imports.routes import XLSX
from yuanlian.services.tenant.imports.table import read_table
from yuanlian.services.tenant.imports.workbook import MAX_STRINGS, read_workbook
from yuanlian.services.tenant.imports.xml_events import MAX_ELEMENTS, MAX_TOKEN, XmlEvents

MIB = 1024 * 1024


def rows(content: bytes) -> list[tuple[int, list[str]]]:
    return list(read_workbook(content))


# -- as people write it ------------------------------------------------------------------------


def test_cells_are_read_as_a_person_typed_them() -> None:
    content = typed(
        ["小红", 13911110000, 1.5, True, datetime(2022, 5, 1), None, " x "],
        [None] * 3,
        [None, "二"],
    )
    assert rows(content) == [
        (1, ["小红", "13911110000", "1.5", "TRUE", "2022-05-01", "", "x"]),
        (3, ["", "二"]),
    ]


def test_dates_of_the_1904_calendar_are_the_same_days() -> None:
    day = datetime(2022, 5, 1)
    assert rows(typed([day])) == rows(typed([day], epoch=CALENDAR_MAC_1904)) == [(1, ["2022-05-01"])]


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ('yyyy"年"m"月"d"日"', "2022-05-01"),
        ("[$-804]yyyy/m/d;@", "2022-05-01"),
        ('0"day"', "44682"),
        ("[Red]0", "44682"),
        ("0.00", "44682"),
    ],
)
def test_a_number_is_a_date_when_its_format_shows_one(code: str, shown: str) -> None:
    workbook = Workbook()
    cell = workbook.worksheets[0].cell(1, 1, 44682)
    cell.number_format = code
    assert rows(saved(workbook)) == [(1, [shown])]


def test_built_in_formats_of_chinese_programs_are_dates_too() -> None:
    styles = '<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="31"/></cellXfs></styleSheet>'
    content = forged('<row r="9"><c s="1"><v>44682</v></c><c s="0"><v>44682</v></c></row>', styles=styles)
    assert rows(content)[-1] == (9, ["2022-05-01", "44682"])


def test_shared_texts_keep_their_runs_and_lose_the_readings_of_characters() -> None:
    strings = "<sst><si><t>小</t></si><si><r><t>小</t></r><r><t>红</t></r><rPh><t>Hong</t></rPh></si></sst>"
    content = forged('<row><c t="s"><v>1</v></c><c t="s"><v>0</v></c></row>', strings=strings)
    assert rows(content)[-1] == (2, ["小红", "小"])


def test_of_a_formula_its_result_is_taken() -> None:
    content = forged('<row><c t="str"><f>CONCAT("a","b")</f><v>ab</v></c><c><f>1+1</f></c></row>')
    assert rows(content)[-1] == (2, ["ab"])


def test_prefixes_formats_and_the_other_parts_of_a_sheet_do_not_matter() -> None:
    prefixed = (
        b'<x:worksheet xmlns:x="x"><x:cols/><x:sheetData><x:row r="1"><x:c r="C1" t="str"><x:v>a</x:v></x:c>'
        b"</x:row></x:sheetData><x:extLst><x:row><x:c><x:v>1</x:v></x:c></x:row></x:extLst></x:worksheet>"
    )
    assert rows(forged(prefixed)) == [(1, ["", "", "a"])]
    workbook = Workbook()
    for column in range(1, 300):
        workbook.worksheets[0].cell(1, column).font = Font(bold=True)
    workbook.worksheets[0].cell(1, 2, "a")
    assert rows(saved(workbook)) == [(1, ["", "a"])]


def test_the_first_sheet_with_rows_is_taken() -> None:
    workbook = Workbook()
    workbook.create_chartsheet(index=0)
    workbook.create_sheet().append(["second"])
    workbook.worksheets[0].append(["first"])
    assert rows(saved(workbook)) == [(1, ["first"])]


# -- as an attacker writes it ------------------------------------------------------------------


def refusal(content: bytes, limit_mib: float = 4) -> type[AppError]:
    """What it is refused with; ``limit_mib`` bounds the memory that this took."""
    tracemalloc.start()
    try:
        with pytest.raises(AppError) as refused:
            read_table(content, workbook=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit_mib * MIB, f"{peak / MIB:.0f} MiB"
    return refused.type


@pytest.mark.parametrize("data", ["<row>" + "<c/>" * 11_000_000 + "</row>", "<row/>" * 7_000_000])
def test_47_kb_that_asked_for_gigabytes_are_refused(tmp_path: Path, data: str) -> None:
    """The two files of the review: 2 GB of memory and 24 to 52 s of processor time."""
    content = forged(data)
    assert len(content) < 100_000
    assert refusal(content) is PayloadTooLargeError

    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        for query in ("", "?dryRun=true"):
            answer = await ask(
                "POST", f"/students/import{query}", body=content, headers={"content-type": XLSX}
            )
            assert (answer.status, answer.message) == (413, "表格内容过多")

    run(tmp_path, scenario)


SMALL_BOMB = 9 * MIB


@pytest.mark.parametrize(
    "content",
    [
        {"data": "<row>" + "<c/>" * (SMALL_BOMB // 4) + "</row>"},
        {"data": "<row/>" * (SMALL_BOMB // 6)},
        {"data": "<row>" + "<c><v>1</v></c>" * (SMALL_BOMB // 15) + "</row>"},
        {"data": "<x>" * (SMALL_BOMB // 3)},
        {"data": "<row><c " + " ".join(f'a{n}="1"' for n in range(700_000)) + "/></row>"},
        {"data": "<!--" + "x" * SMALL_BOMB + "-->"},
        {"data": '<row><c r="' + "A" * SMALL_BOMB + '"/></row>'},
        {"strings": "<sst>" + "<si/>" * (MAX_STRINGS + 1) + "</sst>"},
        {"styles": "<styleSheet><cellXfs>" + "<xf/>" * (SMALL_BOMB // 5) + "</cellXfs></styleSheet>"},
        {"book": "<workbook><sheets>" + "<sheet/>" * (SMALL_BOMB // 8) + "</sheets></workbook>"},
    ],
    ids=["cells", "rows", "values", "depth", "attributes", "comment", "value", "strings", "styles", "sheets"],
)
def test_nothing_in_a_workbook_grows_without_bound(
    content: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the bounds of size, and stored so that no ratio gives it away; a tenth of the elements,
    as tracing memory is slow."""
    monkeypatch.setattr("yuanlian.services.tenant.imports.xml_events.MAX_ELEMENTS", MAX_ELEMENTS // 10)
    made = forged(compression=zipfile.ZIP_STORED, **content)  # type: ignore[arg-type]
    assert refusal(made) in (PayloadTooLargeError, ValidationError)


def test_texts_are_kept_once_and_no_longer_than_any_field() -> None:
    strings = "<sst><si><t>" + " " + "x" * (5 * MIB) + " </t></si></sst>"
    cells = '<c t="s"><v>0</v></c>' * 4
    content = forged(f"<row>{cells}</row>" * 5_000, strings=strings, compression=zipfile.ZIP_STORED)
    tracemalloc.start()
    table = read_table(content, workbook=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == 5_000
    assert peak < 24 * MIB
    assert len(table[0].cells["name"]) < 3_000


def test_elements_are_counted_over_all_parts() -> None:
    def part() -> Iterator[bytes]:
        yield b"<x>"
        for _ in range(MAX_ELEMENTS // 2 // 1000):
            yield b"<y/>" * 1000
        yield b"</x>"

    xml = XmlEvents()
    assert sum(event.kind == "start" for event in xml.read(part())) == MAX_ELEMENTS // 2 + 1
    with pytest.raises(PayloadTooLargeError):
        list(xml.read(part()))
    assert xml.elements == MAX_ELEMENTS + 1


def test_a_tag_that_never_ends_is_given_up() -> None:
    fed = 0

    def endless() -> Iterator[bytes]:
        nonlocal fed
        yield b"<x "
        while True:
            fed += CHUNK
            yield b'a="1" '.ljust(CHUNK)

    with pytest.raises(AppError):
        list(XmlEvents().read(endless()))
    assert fed <= MAX_TOKEN + 2 * CHUNK


def test_columns_far_to_the_right_are_refused_and_not_made_up() -> None:
    assert refusal(forged('<row><c r="XFD2" t="str"><v>x</v></c></row>')) is ValidationError
    blank = '<row><c r="XFD2" s="0"/></row>'
    assert rows(forged(blank)) == rows(forged())


ENTITY = '<!DOCTYPE x [<!ENTITY a "aaaa">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("doctype", [ENTITY, "<!DOCTYPE x>", '<!DOCTYPE x SYSTEM "file:///etc/passwd">'])
@pytest.mark.parametrize("part", ["s.bin", "sheet1.xml"])
def test_no_part_has_a_document_type_whatever_its_name(part: str, doctype: str, encoding: str) -> None:
    text = f"<?xml version='1.0' encoding='{encoding}'?>{doctype}<worksheet><sheetData/></worksheet>"
    assert refusal(forged(text.encode(encoding), sheet=part)) is ValidationError


@pytest.mark.parametrize("part", ["strings", "styles", "book"])
def test_no_other_part_that_is_read_has_one(part: str) -> None:
    assert refusal(forged(**{part: f"{ENTITY}<x>&a;</x>"})) is ValidationError  # type: ignore[arg-type]


def _declared(content: bytes, size: int) -> bytes:
    """The same zip, whose directory declares another unpacked size of the sheet."""
    changed = bytearray(content)
    entry = content.rindex(b"PK\x01\x02")
    assert content[entry:].find(b"xl/worksheets/sheet1.xml") > 0
    struct.pack_into("<I", changed, entry + 24, size)
    return bytes(changed)


@pytest.mark.parametrize("size", [0, 100, 2**31, 2**32 - 2])
def test_a_false_declaration_of_size_is_no_way_round(size: int) -> None:
    assert refusal(_declared(forged("<row/>" * 7_000_000), size)) in (
        PayloadTooLargeError,
        ValidationError,
    )


def test_parts_nobody_reads_are_never_unpacked_and_still_bounded() -> None:
    huge = bytes(MAX_UNPACKED + 1)
    assert refusal(forged(**{"xl/media/huge.bin": huge})) is PayloadTooLargeError  # type: ignore[arg-type]
    many = {f"xl/{n}": b"" for n in range(501)}
    assert refusal(forged(**many)) is PayloadTooLargeError  # type: ignore[arg-type]


def test_what_packs_too_well_to_be_a_table_is_refused() -> None:
    bomb = "<row>" + " " * (2 * SMALL) + "</row>"
    assert refusal(forged(bomb)) is PayloadTooLargeError
    assert rows(forged(bomb, compression=zipfile.ZIP_STORED)) == rows(forged())


def test_only_the_compressions_of_the_format_are_taken() -> None:
    """zipfile bounds what it unpacks at once for deflate alone."""
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert refusal(forged("<row/>", compression=compression)) is ValidationError


@pytest.mark.parametrize(
    "data",
    [
        '<row r="0"/>',
        '<row r="1"/>',
        '<row r="x"/>',
        '<row><c r="1A"><v>1</v></c></row>',
        "<row><c><v>ten</v></c></row>",
        '<row><c t="s"><v>5</v></c></row>',
        '<row><c t="s"><v>-1</v></c></row>',
        '<row><c s="x"><v>1</v></c></row>',
        "<row></c>",
    ],
)
def test_a_broken_sheet_is_no_workbook(data: str) -> None:
    assert refusal(forged(data)) is ValidationError


def test_a_workbook_without_the_sheet_it_names_is_none() -> None:
    for book in ("<workbook/>", '<workbook><sheet r:id="r9"/></workbook>', "<workbook><sheet/></workbook>"):
        assert refusal(forged(book=book)) is ValidationError
    relations = RELATIONS.format(sheet="../../../elsewhere.xml").encode()
    assert refusal(forged(**{"xl/_rels/workbook.xml.rels": relations})) is ValidationError  # type: ignore[arg-type]


def test_damage_anywhere_is_told_as_such() -> None:
    content = typed(["姓名", "性别", "出生日期", "班级"], ["小红", "女", datetime(2022, 5, 1), "1班"])
    for at in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[at] ^= 0x55
        try:
            read_table(bytes(damaged), workbook=True)
        except AppError:
            continue  # told; anything else fails this test


def test_titles_alone_are_no_rows() -> None:
    assert refusal(forged()) is ValidationError
