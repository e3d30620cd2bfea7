"""One reading of a path: what is normalised, what is refused, and that no other reader sees another."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuanlian.gateway.paths import safe_path
from yuanlian.gateway.routes import RouteTable
from yuanlian.kit.errors import AppError, ValidationError


@pytest.mark.parametrize(
    ("raw", "normal", "text"),
    [
        (b"/", b"/", "/"),
        (b"/a/b/", b"/a/b/", "/a/b/"),
        (b"/%e7%8f%ad", b"/%E7%8F%AD", "/班"),
        (b"/%61%2db%7e%5f1%2E5", b"/a-b~_1.5", "/a-b~_1.5"),
        (b"/a%20b", b"/a%20b", "/a b"),
        (b"/a%3bb", b"/a%3Bb", "/a;b"),
        (b"/a%3fb%23", b"/a%3Fb%23", "/a?b#"),
        (b'/a"b|c', b"/a%22b%7Cc", '/a"b|c'),
        (b"/100%25", b"/100%25", "/100%"),
        (b"/.well-known/x..y/...", b"/.well-known/x..y/...", "/.well-known/x..y/..."),
    ],
)
def test_what_all_readers_take_alike_has_one_spelling(raw: bytes, normal: bytes, text: str) -> None:
    assert safe_path(raw) == (normal, text)


@pytest.mark.parametrize(
    "raw",
    [
        b"/a/..", b"/a/./b", b"/..", b"/.", b"//", b"//a", b"/a//b", b"/a//", b"/a/%2e%2E/b", b"/a/.%2e/b",
        b"/a/%2e", b"/a/..;/b", b"/a/..;x=1/b", b"/a/.%3b/b", b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b",
        b"/%00", b"/%0a", b"/%0D", b"/%1f", b"/%7F", b"/%", b"/%1", b"/%zz", b"/%%41", b"/%c0%ae", b"/%ff",
        b"/%ed%a0%80", b"/%252e%252e", b"/%252F", b"/%255c", b"/%2500", b"/%25252e", b"/%2541",
        b"/a;b", b"/;", b"/%3b", b"/a/%3Bx/b",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    for path in (raw, raw + b"/" + b"x" * 300):
        with pytest.raises(ValidationError):
            safe_path(path)


FRAGMENTS = [
    b"/", b"a", b"b", b"open", b"private", b".", b"..", b"%2e", b"%2E", b"%2f", b"%5c", b"\\", b"%25", b"2e",
    b"2f", b"%61", b"%70rivate", b";", b"%3b", b"%e7%8f%ad", b"%00", b"%", b"~", b"'", b'"', b"%7e", b"%20",
]  # fmt: skip
PATHS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(lambda parts: b"/" + b"".join(parts))


@given(PATHS)
def test_the_normal_form_is_its_own_normal_form_and_means_the_same(raw: bytes) -> None:
    try:
        path = safe_path(raw)
    except ValidationError:
        return
    assert safe_path(path.normal) == path
    assert unquote(raw.decode("ascii"), errors="strict") == path.text


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\\%"), min_size=1, max_size=20))
def test_whatever_a_person_names_a_thing_can_be_asked_for(name: str) -> None:
    if name.partition(";")[0] in ("", ".", "..") or any(ord(c) < 0x20 or c == "\x7f" for c in name):
        return
    asked = "/a/" + quote(name, safe="")
    assert safe_path(asked.encode()).text == "/a/" + name


TABLE = RouteTable.load(
    "routes:\n"
    "  - {path: /open/**, service: open, methods: [GET], auth: false}\n"
    "  - {path: /private/**, service: private, methods: [GET]}\n"
    "  - {path: /a/*, service: one, methods: [GET]}\n"
    "  - {path: /a/b/**, service: below, methods: [GET]}\n"
    "  - {path: /**, service: rest, methods: [GET]}\n"
)


def _collapsed(path: str) -> str:
    """As most servers do before they look a path up: slashes merged, dot segments followed."""
    return posixpath.normpath("/" + path.lstrip("/"))


READERS: dict[str, Callable[[str], str]] = {
    "decodes nothing but compares": lambda normal: unquote(_collapsed(normal)),
    "decodes, then follows dots": lambda normal: _collapsed(unquote(normal)),
    "decodes twice": lambda normal: _collapsed(unquote(unquote(normal))),
    "takes a backslash for a slash": lambda normal: _collapsed(unquote(normal).replace("\\", "/")),
    "ends at NUL": lambda normal: _collapsed(unquote(normal).partition("\0")[0]),
}


def _service(path: str) -> str:
    try:
        return TABLE.match("GET", path).service
    except AppError as error:
        return error.code


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
@given(raw=PATHS)
def test_however_the_upstream_reads_what_it_gets_it_reads_the_route_that_was_matched(
    reader: Callable[[str], str], raw: bytes
) -> None:
    try:
        path = safe_path(raw)
    except ValidationError:
        return
    assert _service(path.text) == _service(reader(path.normal.decode("ascii")))


@given(PATHS)
def test_one_who_decodes_and_then_cuts_parameters_off_never_climbs(raw: bytes) -> None:
    try:
        path = safe_path(raw)
    except ValidationError:
        return
    segments = path.text.split("/")
    cut = [segment.partition(";")[0] for segment in segments]
    assert len(_collapsed("/".join(cut)).strip("/").split("/")) == len(path.text.strip("/").split("/"))
