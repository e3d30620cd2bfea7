"""W3C Trace Context at the edge."""

from __future__ import annotations

import pytest

from yuanlian.gateway.http import Headers, Request
from yuanlian.gateway.tracing import trace

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
VALID = b"00-" + TRACE + b"-" + SPAN + b"-01"


def _request(*headers: tuple[bytes, bytes]) -> Request:
    sent: Headers = list(headers)
    return Request("GET", b"/", b"/", b"", sent, dict(reversed(sent)), ("", 1), "1.1", 0.0, "req_1")


def _trace(sent: Headers, trusted: bool = True) -> dict[bytes, bytes]:
    request = _request(*sent)
    return dict(trace(request, trusted)) | {b"id": request.trace_id.encode()}


@pytest.mark.parametrize(
    "sent",
    [VALID, b"01" + VALID[2:], b"cc" + VALID[2:] + b"-what-comes-later", VALID[:-2] + b"ff"],
)
def test_a_valid_trace_is_continued_under_a_span_of_ours(sent: bytes) -> None:
    told = _trace([(b"traceparent", sent)])
    version, trace_id, span, flags = told[b"traceparent"].split(b"-")
    assert (version, trace_id, flags) == (b"00", TRACE, b"01")
    assert len(span) == 16
    assert span != SPAN
    assert told[b"id"] == TRACE


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"00", VALID.upper(), b"ff" + VALID[2:], VALID + b"-x", VALID + b"0", VALID[:-1],
        VALID.replace(TRACE, b"0" * 32), VALID.replace(SPAN, b"0" * 16), b" " + VALID,
        VALID.replace(b"-", b"_"),
        b"0g" + VALID[2:], b"01" + VALID[2:] + b"x", VALID[:-2] + b"0g",
    ],
)  # fmt: skip
def test_an_invalid_one_begins_a_new_trace_without_its_state(sent: bytes) -> None:
    told = _trace([(b"traceparent", sent), (b"tracestate", b"a=1")])
    version, trace_id, _, flags = told[b"traceparent"].split(b"-")
    assert (version, len(trace_id), flags) == (b"00", 32, b"00")
    assert trace_id not in (TRACE, b"0" * 32)
    assert b"tracestate" not in told


def test_two_are_none() -> None:
    told = _trace([(b"traceparent", VALID), (b"traceparent", VALID)])
    assert TRACE not in told[b"traceparent"]


def test_each_request_without_one_has_its_own() -> None:
    assert len({_trace([])[b"id"] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("sent", "trusted", "flags"), [(b"01", True, b"01"), (b"01", False, b"00"), (b"02", True, b"00")]
)
def test_only_a_listed_proxy_may_ask_for_recording(sent: bytes, trusted: bool, flags: bytes) -> None:
    told = _trace([(b"traceparent", VALID[:-2] + sent)], trusted)
    assert told[b"traceparent"].endswith(b"-" + flags)


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ([b"a=1", b"b@c=2"], b"a=1,b@c=2"),
        ([b"x=" + b"y" * 511], None),
        ([b"a=\xff"], None),
        ([b",".join([b"a=1"] * 33)], None),
        ([b""], None),
    ],
)
def test_state_goes_on_in_one_line_unless_it_is_unfit(states: list[bytes], kept: bytes | None) -> None:
    told = _trace([(b"traceparent", VALID), *((b"tracestate", state) for state in states)])
    assert told.get(b"tracestate") == kept
