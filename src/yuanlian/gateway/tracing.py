"""W3C Trace Context: a trace that comes from outside is continued, else one begins here.
Source: https://www.w3.org/TR/trace-context/ §2-4; docs/contract.md says whose flags count."""

from __future__ import annotations

import re

from yuanlian.gateway.http import Headers, Request
from yuanlian.kit.ids import random_digits

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(rb"[\x20-\x7e\t]{1,512}")
_MOST_MEMBERS = 32
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16
_SAMPLED = 0x01


def trace(request: Request, trusted: bool) -> Headers:
    """The ``traceparent`` for the service, whose span is ours, and the ``tracestate`` that came with a
    valid one; ``request.trace_id`` is set. ``trusted``: the peer is a listed proxy, whose "sampled"
    is passed on. Anybody else could have us record everything."""
    sent = request.first.get(b"traceparent")
    known = _parse(request, sent) if sent is not None else None
    digits = random_digits()
    if known is None:
        trace_id = request.trace_id = digits[:32]
        return [(b"traceparent", f"00-{trace_id}-{digits[32:]}-00".encode("ascii"))]
    trace_id, sampled = known
    request.trace_id = trace_id
    flags = "01" if sampled and trusted else "00"
    headers = [(b"traceparent", f"00-{trace_id}-{digits[32:]}-{flags}".encode("ascii"))]
    state = b",".join([value for name, value in request.headers if name == b"tracestate"])
    if _STATE.fullmatch(state) and state.count(b",") < _MOST_MEMBERS:
        headers.append((b"tracestate", state))
    return headers


def _parse(request: Request, sent: bytes) -> tuple[str, bool] | None:
    """Trace id and "sampled"; None when it is malformed or there are several."""
    found = _PARENT.fullmatch(sent)
    if found is None:
        return None
    version, trace_id, span, flags, more = found.groups()
    if version == b"ff" or trace_id == _NO_TRACE or span == _NO_SPAN or (more and version == b"00"):
        return None
    if sum(name == b"traceparent" for name, _ in request.headers) > 1:
        return None
    return trace_id.decode("ascii"), bool(int(flags, 16) & _SAMPLED)
