"""Property tests say what holds, not how fast: with a deadline they would fail on a busy machine."""

from __future__ import annotations

import signal
from types import FrameType

import pytest
from hypothesis import settings
from tests.support import servers

settings.register_profile("yuanlian", deadline=None)
settings.load_profile("yuanlian")


def pytest_configure() -> None:
    """A run that is told to end stops what it has started, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)


@pytest.hookimpl(trylast=True)  # after the fixtures of the session
def pytest_sessionfinish() -> None:
    servers.stop_all()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
