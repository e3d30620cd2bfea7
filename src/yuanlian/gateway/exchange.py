"""One request in its turn: handled, answered whatever happens, and written down."""

from __future__ import annotations

import time

import structlog

from yuanlian.gateway.body import is_complete, size
from yuanlian.gateway.handler import Handler
from yuanlian.gateway.http import SAFE_METHODS, RefusedError, Request
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.response import BrokenResponseError, ResponseWriter
from yuanlian.gateway.upstreams.upstream import ClientLeftError
from yuanlian.kit.errors import AppError, InternalError
from yuanlian.kit.observe.entry import AccessLine

_log = structlog.get_logger("gateway")
_CLIENT_LEFT = 499


async def serve(handler: Handler, observer: Observer, request: Request, response: ResponseWriter) -> None:
    """Whatever the handler raises is answered, as far as anything still can be; cancellation passes."""
    try:
        await handler.handle(request, response)
    except Exception as error:  # noqa: BLE001 - the last one who can still answer with an envelope
        _fail(request, response, error)
    finally:
        write_down(observer, request, response)


def refuse(observer: Observer, request: Request, response: ResponseWriter, refusal: RefusedError) -> None:
    response.fail(refusal)
    write_down(observer, request, response)


def may_be_given_up(request: Request) -> bool:
    """When the client leaves: unless an upstream has all of a request that may change something."""
    return not request.forwarded or request.method in SAFE_METHODS or not is_complete(request.body)


def _fail(request: Request, response: ResponseWriter, error: Exception) -> None:
    """What went wrong with the request's own body explains whatever it led to."""
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


def write_down(observer: Observer, request: Request, response: ResponseWriter) -> None:
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
