"""A circuit breaker: stop asking who does not answer, try again with one careful question.

Source: M. Nygard, *Release It!*, "Circuit Breaker"; states as there: closed, open, half-open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from time import monotonic
from typing import TypeVar

from yuanlian.kit.errors import ServiceUnavailableError

T = TypeVar("T")


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Opens after ``threshold`` failures in a row; ``cooldown_s`` later lets one call through at a
    time: its success closes, its failure opens again.

    ``is_failure`` says which exceptions speak against the other side: a refused request does not.
    A cancelled call counts as neither. One event loop; not for threads.
    """

    def __init__(
        self,
        threshold: int = 5,
        cooldown_s: float = 5.0,
        is_failure: Callable[[Exception], bool] = lambda _: True,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._threshold = threshold
        self._cooldown_s = cooldown_s
        self._is_failure = is_failure
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return State.CLOSED
        cooled = self._clock() - self._opened_at >= self._cooldown_s
        return State.HALF_OPEN if cooled else State.OPEN

    @property
    def admits(self) -> bool:
        """Whether a call may begin now."""
        state = self.state
        return state is State.CLOSED or (state is State.HALF_OPEN and not self._probing)

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` returns or raises.

        Raises:
            ServiceUnavailableError: without calling, while open or while another call probes.
        """
        probe = self.enter()
        try:
            result = await work()
        except Exception as error:
            self.leave(probe, failed=self._is_failure(error))
            raise
        except BaseException:
            self.leave(probe, failed=None)
            raise
        self.leave(probe, failed=False)
        return result

    def enter(self) -> bool:
        """For callers that have no coroutine to hand over: begins a call that must be ended with
        ``leave``. True when it is the one that probes.

        Raises:
            ServiceUnavailableError: while open or while another call probes.
        """
        if not self.admits:
            raise ServiceUnavailableError
        probe = self.state is State.HALF_OPEN
        self._probing = self._probing or probe
        return probe

    def leave(self, probe: bool, *, failed: bool | None) -> None:
        """``probe``: as ``enter`` returned. ``failed``: None when the call says neither."""
        if probe:
            self._probing = False
        if failed:
            self._failures += 1
            # Calls that began before it opened do not prolong the pause.
            if probe or (self._opened_at is None and self._failures >= self._threshold):
                self._opened_at = self._clock()
        elif failed is not None and (probe or self._opened_at is None):
            self._failures = 0
            self._opened_at = None
