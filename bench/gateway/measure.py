"""One contender, one round: every scenario, then half of its own load."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

import msgspec

from bench.gateway.contender import Contender, Serving, Stage
from bench.gateway.generator import Flood, Generator
from bench.gateway.pace import Pace
from bench.gateway.processes import on_core
from bench.gateway.scenario import GET, SCENARIOS, Scenario, request_bytes

_GRACE_S = 30.0
_REST_S = 1.0
"""After a flood: logs are written, and whoever was kept from the cores has a turn."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    warm_up: float
    main: float
    others: float
    paced: float


class Load(msgspec.Struct):
    """``cpu_us``: of the gateway, per request, user and system."""

    flood: Flood
    cpu_us: float


class HalfLoad(msgspec.Struct):
    """The same paced requests through the gateway and straight to the upstream."""

    through: Pace
    direct: Pace

    @property
    def added_p50_ms(self) -> float:
        return self.through.p50_ms - self.direct.p50_ms

    @property
    def added_p99_ms(self) -> float:
        return self.through.p99_ms - self.direct.p99_ms


class Round(msgspec.Struct):
    """``logged``: lines of the access log per request; None when there is no log."""

    loads: dict[str, Load]
    half: HalfLoad
    memory_mib: float
    logged: float | None = None


class Result(msgspec.Struct):
    """All rounds of one contender; figures are medians."""

    key: str
    name: str
    features: str
    rounds: list[Round]

    def rate(self, scenario: Scenario = GET) -> float:
        return median(
            r.loads[scenario.key].flood.requests / r.loads[scenario.key].flood.seconds for r in self.rounds
        )

    def cpu_us(self, scenario: Scenario = GET) -> float:
        return median(r.loads[scenario.key].cpu_us for r in self.rounds)

    def p50_ms(self) -> float:
        return median(r.loads[GET.key].flood.p50_ms for r in self.rounds)

    def p99_ms(self) -> float:
        return median(r.loads[GET.key].flood.p99_ms for r in self.rounds)

    def added_p50_ms(self) -> float:
        return median(r.half.added_p50_ms for r in self.rounds)

    def added_p99_ms(self) -> float:
        return median(r.half.added_p99_ms for r in self.rounds)

    def direct_p99_ms(self) -> float:
        return median(r.half.direct.p99_ms for r in self.rounds)

    def memory_mib(self) -> float:
        return median(r.memory_mib for r in self.rounds)

    def faults(self) -> list[str]:
        """What went wrong, in words."""
        found = []
        for number, one in enumerate(self.rounds, 1):
            for scenario in SCENARIOS:
                flood = one.loads[scenario.key].flood
                if flood.refused or flood.broken:
                    found.append(
                        f"round {number}, {scenario.title}: {flood.refused} answers of 4xx or 5xx, "
                        f"{flood.broken} broken connections or time-outs, of {flood.requests}"
                    )
            if one.half.through.failures:
                found.append(f"round {number}, half load: {one.half.through.failures} not answered with 200")
            if one.logged is not None and one.logged < 0.99:
                found.append(f"round {number}: only {one.logged:.0%} of the requests are in the access log")
        return found


class Idle(msgspec.Struct):
    """``kib_each``: resident memory of the gateway per idle keep-alive connection; what the kernel
    keeps for its sockets is not in it. ``kept``: still open when looked at again."""

    asked: int
    opened: int
    kept: int
    kib_each: float


def measure(contender: Contender, stage: Stage, generator: Generator, times: Times) -> Round:
    """Raises:
    DidNotStartError, subprocess.SubprocessError: there is nothing to measure.
    """
    with contender.serving(stage) as serving:
        answered = generator.flood(serving.port, GET, stage.token, times.warm_up).requests
        loads = {}
        loads[GET.key] = _load(serving, generator, GET, stage, times.main)
        memory_mib = serving.memory_kib() / 1024
        rate = loads[GET.key].flood.rate / 2
        time.sleep(_REST_S)
        # Before the large bodies and the crowd: what those leave behind is no part of this latency.
        half = HalfLoad(
            through=_pace(serving.port, rate, stage, times.paced),
            direct=_pace(stage.upstream, rate, stage, times.paced),
        )
        for scenario in SCENARIOS[1:]:
            loads[scenario.key] = _load(serving, generator, scenario, stage, times.others)
        answered += sum(load.flood.requests for load in loads.values()) + half.through.answered
    logged = _lines(contender, stage) / answered if contender.writes_log else None
    return Round(loads, half, memory_mib, logged)


def measure_idle(contender: Contender, stage: Stage, generator: Generator, connections: int) -> Idle:
    with contender.serving(stage) as serving:
        generator.flood(serving.port, GET, stage.token, 1.0)  # so that memory for work is there already
        before = serving.memory_kib()
        request = request_bytes(GET, serving.port, stage.token)
        command = [sys.executable, "-m", "bench.gateway.idle", "--port", str(serving.port)]
        with subprocess.Popen(
            [*command, "--connections", str(connections)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=on_core(stage.cores.others),
        ) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write(b"%d\n%b" % (len(request), request))
            holder.stdin.flush()
            opened = int(holder.stdout.readline() or b"0")
            grown = serving.memory_kib() - before
            holder.stdin.close()
            kept = int(holder.stdout.readline() or b"0")
    return Idle(connections, opened, kept, grown / max(1, opened))


def _load(serving: Serving, generator: Generator, scenario: Scenario, stage: Stage, seconds: float) -> Load:
    before = serving.cpu_us()
    flood = generator.flood(serving.port, scenario, stage.token, seconds)
    return Load(flood, (serving.cpu_us() - before) / max(1, flood.requests))


def _pace(port: int, rate: float, stage: Stage, seconds: float) -> Pace:
    command = [sys.executable, "-m", "bench.gateway.pace", "--port", str(port), "--rate", f"{rate:.1f}"]
    finished = subprocess.run(
        [*command, "--seconds", str(seconds)],
        input=request_bytes(GET, port, stage.token),
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + _GRACE_S,
        preexec_fn=on_core(stage.cores.others),
    )
    return msgspec.json.decode(finished.stdout, type=Pace)


def _lines(contender: Contender, stage: Stage) -> int:
    with contender.log_file(stage).open("rb") as log:
        return sum(piece.count(b"\n") for piece in iter(lambda: log.read(1 << 20), b""))


def direct(stage: Stage, generator: Generator, scenario: Scenario, seconds: float) -> Flood:
    """What the generator gets out of the upstream with nobody in between: the most it can do."""
    return generator.flood(stage.upstream, scenario, stage.token, seconds)
