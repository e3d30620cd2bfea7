"""``yuanlian run SERVICE --workers N``: one small parent, and N times the very same command.

Instances of a service are found in the registry, so its workers share nothing, not even a port: the parent
only sees to it that they are there (``replica``).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from functools import partial

import structlog

from yuanlian.kit.observe.logs import configure
from yuanlian.runtime import memory
from yuanlian.runtime.refusals import Refusal
from yuanlian.runtime.replica import Replica
from yuanlian.runtime.settings import Settings, UnsupportedSettingError
from yuanlian.runtime.stopping import FORCED_S, Stop, heeding_hangups, one_after_another

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
SETTLED_S = 30.0
"""A worker that lived so long was fine; the pauses begin anew."""
LAST_S = 5.0
LAST_PORT = 65535

_log = structlog.get_logger("runtime")


class ReplicasFailedError(Refusal):
    """One of the first could not serve."""


def run(name: str, settings: Settings, *, demo: bool) -> None:
    """Keeps ``settings.workers`` processes of the service until SIGINT or SIGTERM.

    Raises:
        UnsupportedSettingError, ReplicasFailedError: nothing is left running.
    """
    commands = commands_for(name, settings, demo=demo)
    configure(name, settings.log_level, console=sys.stdout.isatty(), shared=True)
    asyncio.run(_serve(commands, settings.drain_s))


async def _serve(commands: Sequence[Sequence[str]], drain_s: float) -> None:
    stop = Stop(drain_s + 2 * FORCED_S + LAST_S)
    stop.ask_on_signals()
    with heeding_hangups(stop, partial(one_after_another, ())):
        await Replicas(commands, stop, drain_s).serve()
    _log.info("stopped")


def commands_for(name: str, settings: Settings, *, demo: bool) -> list[list[str]]:
    """What each worker is. The first loads the demonstration: the others would wait for the same rows.

    Raises:
        UnsupportedSettingError: there are not so many ports.
    """
    ports = _ports("YUANLIAN_SERVICES_PORT", settings.services_port, settings.workers)
    admin_ports = _ports("YUANLIAN_SERVICES_ADMIN_PORT", settings.services_admin_port, settings.workers)
    command = [sys.executable, "-m", "yuanlian.runtime.cli", "run", name, "--replica"]
    command += ["--workers", str(settings.workers), "--host", settings.services_host]
    command += ["--data-dir", str(settings.data_dir)]
    commands = [
        [*command, "--port", str(port), "--admin-port", str(admin_port)]
        for port, admin_port in zip(ports, admin_ports, strict=True)
    ]
    if demo:
        commands[0].append("--demo")
    return commands


def _ports(setting: str, first: int, count: int) -> list[int]:
    if first == 0:
        return [0] * count  # each a free one
    if first + count - 1 > LAST_PORT:
        raise UnsupportedSettingError(
            f"{setting}: {count} workers have the ports from {first} on, and the last there is is {LAST_PORT}"
        )
    return list(range(first, first + count))


class Replicas:
    """``commands``: one for each worker that is to be there. ``drain_s``: what each may take to end."""

    def __init__(self, commands: Sequence[Sequence[str]], stop: Stop, drain_s: float) -> None:
        self._commands = commands
        self._stop = stop
        self._drain_s = drain_s
        self._living: set[Replica] = set()

    async def serve(self) -> None:
        """Returns when a stop was asked for and all have ended.

        Raises:
            ReplicasFailedError: one of the first could not serve; the others have ended, too.
        """
        ending = asyncio.create_task(self._end_when_asked())
        try:
            replicas = await self._begin()
            memory.settle()
            await asyncio.gather(*(self._keep(index, replica) for index, replica in enumerate(replicas)))
        finally:
            self._stop.ask()
            await ending

    async def _begin(self) -> list[Replica]:
        """The first makes the schema, and the demonstration, which the others use; and what keeps it from
        serving, it says for all of them."""
        first = await self._start(0)
        later = range(1, len(self._commands)) if first is not None else ()
        started = [first, *await asyncio.gather(*(self._start(index) for index in later))]
        serving = [replica for replica in started if replica is not None]
        if self._stop.is_asked:
            return []
        if len(serving) < len(self._commands):
            raise ReplicasFailedError("a worker ended before it could serve; what it said is above")
        return serving

    async def _keep(self, index: int, replica: Replica | None) -> None:
        """Has a worker at that place, as long as we serve."""
        pause = FIRST_PAUSE_S
        while True:
            if replica is not None:
                await replica.buried
                if replica.age_s > SETTLED_S:
                    pause = FIRST_PAUSE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.asked()
                    return
            pause = min(2 * pause, LONGEST_PAUSE_S)
            replica = await self._start(index)

    async def _start(self, index: int) -> Replica | None:
        """One that serves; None when it did not get there."""
        try:
            replica = await Replica.spawn(index, self._commands[index])
        except OSError as error:
            _log.error("no worker can be started", worker=index, reason=str(error))
            return None
        self._living.add(replica)
        replica.buried = asyncio.create_task(self._bury(replica))
        if self._stop.is_asked:  # the others were told before this one was there
            await self._end(replica)
        elif await replica.serves():
            _log.info("worker started", worker=index, pid=replica.pid)
            return replica
        await replica.buried
        return None

    async def _bury(self, replica: Replica) -> None:
        how = await replica.ended()
        self._living.discard(replica)
        say = _log.info if self._stop.is_asked else _log.error
        say("worker ended", worker=replica.index, pid=replica.pid, how=how)

    async def _end_when_asked(self) -> None:
        await self._stop.asked()
        _log.info("stopping")
        await asyncio.gather(*(self._end(replica) for replica in self._living))

    async def _end(self, replica: Replica) -> None:
        """Lets it drain, then ends it if it does not."""
        replica.send(signal.SIGTERM)
        _, late = await asyncio.wait({replica.buried}, timeout=self._drain_s + 2 * FORCED_S)
        if late:
            _log.error("worker does not end; killed", worker=replica.index, pid=replica.pid)
            replica.send(signal.SIGKILL)
            await replica.buried
