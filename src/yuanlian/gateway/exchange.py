"""One request in its turn: handled, answered whatever happens, and written down."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

import structlog

from yuanlian.gateway.body import is_complete, size
from yuanlian.gateway.handler import Handler, PromptHandler
from yuanlian.gateway.http import SAFE_METHODS, RefusedError, Request
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.response import BrokenResponseError, ResponseWriter
from yuanlian.gateway.upstreams.upstream import ClientLeftError, Then, Underway
from yuanlian.kit.errors import AppError, InternalError
from yuanlian.kit.observe.entry import AccessLine

_log = structlog.get_logger("gateway")
_CLIENT_LEFT = 499


async def serve(work: Coroutine[Any, Any, None], observer: Observer, response: ResponseWriter) -> None:
    """``work``: the handler's. Whatever it raises is answered, as far as anything still can be;
    cancellation passes."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - the last one who can still answer with an envelope
        _fail(response, error)
    finally:
        write_down(observer, response)


def begin(handler: Handler, response: ResponseWriter, then: Then) -> Underway | None:
    """The same without a task, as far as that goes. Whoever is told ``then`` writes down what has ended."""
    assert isinstance(handler, PromptHandler)  # the caller knows
    try:
        return handler.begin(response.request, response, then)
    except Exception as error:  # noqa: BLE001 - as above
        _fail(response, error)
        then(None)
        return None


def refuse(observer: Observer, response: ResponseWriter, refusal: RefusedError) -> None:
    response.fail(refusal)
    write_down(observer, response)


def may_be_given_up(request: Request) -> bool:
    """When the client leaves: unless an upstream has all of a request that may change something."""
    return request.outgoing is None or request.method in SAFE_METHODS or not is_complete(request.body)


def _fail(response: ResponseWriter, error: Exception) -> None:
    """What went wrong with the request's own body explains whatever it led to."""
    request = response.request
    if not isinstance(request.body, bytes) and request.body.failure is not None:
        error = request.body.failure
    if response.sent:
        _log.error("response broken", request_id=request.request_id, reason=str(error))
    elif isinstance(error, AppError | RefusedError):
        response.fail(error)
    elif not isinstance(error, ClientLeftError):
        if not isinstance(error, BrokenResponseError):
            _log.error("request failed", request_id=request.request_id, exc_info=error)
        response.fail(InternalError())


def write_down(observer: Observer, response: ResponseWriter) -> None:
    request = response.request
    observer.request_finished(
        AccessLine(
            time.time_ns(),
            request.method,
            request.route,
            response.status or _CLIENT_LEFT,
            request.tenant_id,
            request.user_id,
            request.request_id,
            request.trace_id,
            request.instance,
            time.perf_counter() - request.started,
            size(request.body),
            response.bytes_out,
        )
    )
