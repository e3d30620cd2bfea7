from __future__ import annotations

import io
import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import structlog

from yuanlian.kit.context import RequestContext, serving
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.observe.entry import AccessLine, LogEntry
from yuanlian.kit.observe.logs import LINES_AT_ONCE, PENDING_LIMIT, Log, configure
from yuanlian.kit.tenancy.scope import tenant_group, tenant_scope


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def answered(route: str) -> AccessLine:
    return AccessLine(time.time_ns(), "GET", route, 200, "", "", "req_1", "", "", 0.001, 0, 2)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = lines(stream)
    return line


def test_a_line_is_the_specifications_log_entry(stream: io.StringIO) -> None:
    configure("tenant-service", stream=stream)
    context = RequestContext("req_1", principal=Principal("user_1", "tenant_1"))
    with serving(context), tenant_scope("tenant_1"):
        structlog.get_logger("roster").warning("imported", rows=3, duration=12.5)
    line = only(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warn",
        "service": "tenant-service",
        "message": "imported",
        "tenantId": "tenant_1",
        "userId": "user_1",
        "requestId": "req_1",
        "data": {"rows": 3},
        "duration": 12.5,
        "metadata": {"logger": "roster"},
    }


def test_what_is_not_known_is_not_there(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    structlog.get_logger().info("started")
    assert only(stream).keys() == {"timestamp", "level", "service", "message"}


def test_work_for_several_tenants_names_none_of_them(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    with tenant_group({"a", "b"}):
        structlog.get_logger().info("consumed")
    assert "tenantId" not in only(stream)


def test_an_exception_is_told_with_name_message_and_stack(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    try:
        {"a": 1}["studentId"]
    except KeyError as error:
        structlog.get_logger().error("failed", exc_info=error)
        structlog.get_logger().exception("failed")
        structlog.get_logger().error("failed", error=error)
    for line in lines(stream):
        assert line["error"]["name"] == "KeyError"
        assert line["error"]["message"] == "'studentId'"
        assert "test_logs.py" in line["error"]["stack"]
        assert line["level"] == "error"


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "newPassword",
        "token",
        "refreshToken",
        "access_token",
        "Authorization",
        "secret",
        "Set-Cookie",
    ],
)
def test_a_secret_is_masked_by_its_key_however_deep(stream: io.StringIO, key: str) -> None:
    configure("x", stream=stream)
    structlog.get_logger().info("got", **{key: "hunter2"}, body={"items": [{key: "hunter2"}]})
    assert "hunter2" not in stream.getvalue()
    assert only(stream)["data"]["body"] == {"items": [{key: "***"}]}


def test_a_secret_inside_text_is_masked(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    structlog.get_logger().info("sent Authorization: Bearer abc.def", url="amqp://user:hunter2@broker/")
    try:
        int("eyJhbGciOi.eyJzdWIi.c2ln")
    except ValueError:
        structlog.get_logger().exception("refused")
    text = stream.getvalue()
    assert "abc.def" not in text
    assert "hunter2" not in text
    assert "eyJzdWIi" not in text
    assert lines(stream)[0]["data"]["url"] == "amqp://user:***@broker/"


def test_so_is_a_password_among_the_options_of_an_url(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    structlog.get_logger().info("asked", url="rediss://cache:6379/0?ssl_password=hunter2&db=1")
    assert only(stream)["data"]["url"] == "rediss://cache:6379/0?ssl_password=***&db=1"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, {("a", 1): 2}, "\ud800", float("nan"), 2**80, Unprintable(), b"\xff", [Unprintable()]],
)
def test_nothing_logged_can_raise_or_break_the_line(stream: io.StringIO, value: Any) -> None:
    configure("x", stream=stream)
    structlog.get_logger().info("odd\nline", value=value)
    assert only(stream)["message"] == "odd\nline"


def test_a_structure_that_contains_itself_is_still_one_line(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    loop: dict[str, Any] = {}
    loop["self"] = loop
    structlog.get_logger().info("loop", loop=loop)
    assert only(stream)["message"] == "loop"


def test_a_closed_stream_loses_the_line_and_says_so() -> None:
    stream = io.StringIO()
    log = configure("x", stream=stream)
    stream.close()
    structlog.get_logger().info("into the void")
    assert log.lost == 1


def test_below_the_level_nothing_is_written(stream: io.StringIO) -> None:
    log = configure("x", "warn", stream)
    structlog.get_logger().info("quiet")
    log.access(answered("/"))
    assert stream.getvalue() == ""


def test_an_unknown_level_is_refused(stream: io.StringIO) -> None:
    with pytest.raises(ValueError, match="verbose"):
        configure("x", "verbose", stream)


def test_the_standard_librarys_loggers_speak_the_same_shape(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    logging.getLogger("asyncio").error("took %d ms", 120)
    logging.getLogger("alembic").info("noise")
    line = only(stream)
    assert line["message"] == "took 120 ms"
    assert line["metadata"] == {"logger": "asyncio"}


def test_arguments_that_do_not_fit_their_format_are_logged_as_they_are(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    root = logging.getLogger()
    root.handlers[:] = root.handlers[-1:]  # pytest's own would raise
    root.error("%d", "not a number")
    assert "not a number" in only(stream)["message"]


def test_warnings_are_log_lines(stream: io.StringIO) -> None:
    configure("x", stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", stacklevel=1)
    assert "old" in only(stream)["message"]


def test_configuring_again_moves_loggers_that_exist(stream: io.StringIO) -> None:
    log = structlog.get_logger("early")
    configure("x", stream=io.StringIO())
    configure("y", stream=stream)
    log.info("here")
    logging.getLogger("other").error("and here")
    assert [line["service"] for line in lines(stream)] == ["y", "y"]


def test_for_a_person_the_line_reads_like_one(stream: io.StringIO) -> None:
    configure("x", stream=stream, console=True)
    with serving(RequestContext("req_1")):
        structlog.get_logger().info("listening", port=8080)
    assert stream.getvalue().endswith("info  listening port=8080 request=req_1\n")


def test_a_stream_of_bytes_gets_whole_lines() -> None:
    raw = io.BytesIO()
    log = Log("x", io.TextIOWrapper(raw, encoding="ascii"))
    log.write("info", "阳光幼儿园", {})
    assert "阳光幼儿园" in raw.getvalue().decode()
    assert raw.getvalue().endswith(b"}\n")


def test_access_lines_are_written_soon_and_in_their_place(stream: io.StringIO) -> None:
    log = configure("x", stream=stream)
    log.access(answered("/first"))
    structlog.get_logger().info("second")
    log.access(answered("/third"))
    deadline = time.monotonic() + 10
    while len(lines(stream)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [line["message"] for line in lines(stream)] == ["GET /first 200", "second", "GET /third 200"]


class Pieces(io.StringIO):
    """Remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def test_a_burst_is_written_in_pieces_so_that_the_event_loop_has_its_turns() -> None:
    stream = Pieces()
    log = Log("x", stream)
    with log._writing:  # else the thread may be faster
        for number in range(3 * LINES_AT_ONCE):
            log.access(answered(f"/{number}"))
    log.flush()
    assert [line["data"]["route"] for line in lines(stream)] == [f"/{n}" for n in range(3 * LINES_AT_ONCE)]
    assert max(piece.count("\n") for piece in stream.pieces) <= LINES_AT_ONCE


def test_what_the_collector_makes_objects_say_while_lines_are_made_is_written_too(
    stream: io.StringIO,
) -> None:
    log = Log("x", stream)
    said: list[LogEntry] = []
    real = log._render

    def collected_meanwhile(entries: Sequence[LogEntry]) -> list[bytes]:
        if not said:
            said.extend(entries)
            log.write("warn", "the last word of an object", {}, None, None)
        return real(entries)

    log._render = collected_meanwhile
    for number in range(LINES_AT_ONCE + 1):
        log.access(answered(f"/{number}"))
    log.flush()
    assert len(lines(stream)) == LINES_AT_ONCE + 2


def test_a_stuck_stream_costs_access_lines_and_no_memory(stream: io.StringIO) -> None:
    log = Log("x", stream)
    with log._writing:  # as if a write did not return
        for _ in range(PENDING_LIMIT + 5):
            log.access(answered("/"))
    assert log.lost == 5
    log.flush()
    assert len(lines(stream)) == PENDING_LIMIT
