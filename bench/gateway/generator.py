"""As many requests as a gateway takes: by ``wrk``, or by ``bench/load.py`` where there is none."""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path

import msgspec

from bench.gateway.environment import Environment
from bench.gateway.processes import on_core
from bench.gateway.scenario import Scenario, request_bytes
from bench.load import Outcome, Plan

_GRACE_S = 30.0


class Flood(msgspec.Struct):
    """``refused``: answers of 4xx and 5xx; ``broken``: connections that failed, and time-outs."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Generator(ABC):
    name: str

    @abstractmethod
    def flood(self, port: int, scenario: Scenario, token: str, seconds: float) -> Flood:
        """Closed loop: every connection sends its next request as soon as the last is answered."""


class Wrk(Generator):
    name = "wrk, one thread"

    def __init__(self, program: Path, core: int | None) -> None:
        self._program = program
        self._core = core

    def flood(self, port: int, scenario: Scenario, token: str, seconds: float) -> Flood:
        script = Path(__file__).with_name("wrk.lua")
        command = [
            *(
                str(self._program),
                "-t1",
                f"-c{scenario.connections}",
                f"-d{max(1, round(seconds))}s",
                "--timeout",
                "10s",
            ),
            *("-s", str(script), "-H", f"Authorization: Bearer {token}"),
            *(f"http://127.0.0.1:{port}{scenario.path}", "--", scenario.method, str(scenario.body)),
        ]
        printed = _run(command, self._core, seconds)
        return msgspec.json.decode(printed.strip().splitlines()[-1], type=Flood)


class Own(Generator):
    """A plain-Python generator: fast enough for most gateways, not for nginx; the report says so."""

    name = "bench/load.py"
    _PER_SECOND = 60_000

    def __init__(self, scratch: Path, core: int | None) -> None:
        self._plan = scratch / "plan.msgpack"
        self._core = core

    def flood(self, port: int, scenario: Scenario, token: str, seconds: float) -> Flood:
        head, _, body = request_bytes(scenario, port, token).partition(b"\r\n\r\n")
        rest = (0, b"\r\n" + body)
        plan = Plan([head + b"\r\n"], [rest] * int(self._PER_SECOND * seconds))
        self._plan.write_bytes(msgspec.msgpack.encode(plan))
        command = [
            *(sys.executable, "-m", "bench.load", "--port", str(port), "--plan", str(self._plan)),
            *("--seconds", str(seconds), "--warm-up", "0", "--connections", str(scenario.connections)),
        ]
        outcome = msgspec.json.decode(_run(command, self._core, seconds), type=Outcome)
        refused = sum(count for kind, count in outcome.failures.items() if kind.isdigit())
        return Flood(
            requests=outcome.counted,
            seconds=outcome.seconds,
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            refused=refused,
            broken=sum(outcome.failures.values()) - refused,
        )


def best_generator(environment: Environment, scratch: Path, core: int | None) -> Generator:
    if "wrk" in environment.programs:
        return Wrk(environment.programs["wrk"], core)
    return Own(scratch, core)


def _run(command: list[str], core: int | None, seconds: float) -> bytes:
    """Raises:
    subprocess.SubprocessError: it failed, or took much longer than it should.
    """
    return subprocess.run(
        command, stdout=subprocess.PIPE, check=True, timeout=seconds + _GRACE_S, preexec_fn=on_core(core)
    ).stdout
