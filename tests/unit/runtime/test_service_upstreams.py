"""Whatever goes wrong with one upstream, none that was begun is left running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.support.edge import run

from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.upstreams.discovery import Listener
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.runtime.service_upstreams import Upstreams

NEW = "routes:\n  - {path: /open/**, service: new-service, methods: [GET], auth: false}\n"


class Source:
    """An instance source without instances. ``runs`` from the beginning of ``start``, as one that has
    begun to watch a registry does; ``fails_in``: where it raises, ``start`` or ``stop``."""

    def __init__(self, fails_in: str = "", error: BaseException | None = None) -> None:
        self.fails_in = fails_in
        self.error = error or OSError(f"{fails_in} failed")
        self.runs = False

    async def start(self, listener: Listener) -> None:
        self.runs = True
        if self.fails_in == "start":
            raise self.error
        listener([])

    async def stop(self) -> None:
        self.runs = False
        if self.fails_in == "stop":
            raise self.error


def _upstreams(*sources: Source) -> Upstreams:
    return Upstreams(
        {f"svc-{number}": HttpUpstream(f"svc-{number}", source) for number, source in enumerate(sources)}
    )


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    """``scenario``, after which no task of an upstream may be left."""

    async def watched() -> None:
        before = asyncio.all_tasks()
        await scenario()
        assert asyncio.all_tasks() == before

    run(watched)


def test_one_that_cannot_be_stopped_does_not_keep_the_others_running() -> None:
    """Those that had been started before it went on."""
    sources = [Source(), Source("stop"), Source()]

    async def scenario() -> None:
        upstreams = _upstreams(*sources)
        await upstreams.start()
        assert all(source.runs for source in sources)
        with pytest.raises(OSError, match="stop failed"):
            await upstreams.stop()
        assert not any(source.runs for source in sources)
        await upstreams.stop()  # all is done

    _run(scenario)


def test_of_several_that_cannot_be_stopped_the_first_is_told_of() -> None:
    """They are stopped in the opposite order of their start."""
    first, second = Source("stop", OSError("first")), Source("stop", OSError("second"))

    async def scenario() -> None:
        upstreams = _upstreams(Source(), second, first)
        await upstreams.start()
        with pytest.raises(OSError, match="first"):
            await upstreams.stop()

    _run(scenario)


def test_one_that_fails_in_the_middle_of_its_start_is_stopped_too() -> None:
    """It was forgotten, though its source ran already."""
    sources = [Source(), Source("start"), Source()]

    async def scenario() -> None:
        upstreams = _upstreams(*sources)
        with pytest.raises(OSError, match="start failed"):
            await upstreams.start()
        await upstreams.stop()
        assert [source.runs for source in sources] == [False, False, False]

    _run(scenario)


def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    sources = [Source(), Source("start", asyncio.CancelledError())]

    async def scenario() -> None:
        upstreams = _upstreams(*sources)
        with pytest.raises(asyncio.CancelledError):
            await upstreams.start()
        await upstreams.stop()
        assert not any(source.runs for source in sources)

    _run(scenario)


def test_a_start_that_fails_is_what_is_told_whatever_fails_after_it() -> None:
    sources = [Source("stop"), Source("start")]

    async def scenario() -> None:
        upstreams = _upstreams(*sources)
        with pytest.raises(OSError, match="start failed"):
            await upstreams.start()
        await upstreams.stop()
        assert not any(source.runs for source in sources)

    _run(scenario)


def test_a_service_found_in_the_routes_that_cannot_be_started_is_asked_for_again() -> None:
    sources = [Source("start"), Source()]
    left = iter(sources)

    async def scenario() -> None:
        upstreams = Upstreams({}, lambda name: HttpUpstream(name, next(left)))
        await upstreams.start()
        table = RouteTable.load(NEW)
        with pytest.raises(OSError, match="start failed"):
            await upstreams.take_in(table)
        assert upstreams.get("new-service") is None
        assert not sources[0].runs
        await upstreams.take_in(table)
        assert upstreams["new-service"].name == "new-service"
        assert sources[1].runs
        await upstreams.stop()
        assert not sources[1].runs

    _run(scenario)
