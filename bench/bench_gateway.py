"""The gateway beside what a team would put there instead, in one run, in front of the same nginx.

    make bench-gateway [ARGS="--quick --rounds 3 --only yuanlian envoy --save"]

Contenders take turns: each is started, asked the same questions with the same token, and stopped, and so
again each round; figures are medians. The gateway has one core, generator and upstream the other. What a
contender claims to do for each request (check the token, write the log) is verified. Peers are installed
at pinned versions into ``.bench/`` first. Everything listens on 127.0.0.1 only, and ends with the run.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from bench.gateway import chart, report
from bench.gateway.contender import Contender, Stage
from bench.gateway.environment import Environment, prepare
from bench.gateway.generator import Flood, Generator, best_generator
from bench.gateway.goals import Goal, goals
from bench.gateway.measure import Idle, Result, Times, direct, measure, measure_idle
from bench.gateway.ours import Yuanlian
from bench.gateway.peers import all_peers, upstream
from bench.gateway.processes import Cores, DidNotStartError
from bench.gateway.scenario import SCENARIOS, access_token
from bench.machine import describe, save

LIBRARIES = ("uvloop", "httptools", "msgspec", "joserfc")
RESULTS = Path("bench/results/gateway.json")
FULL = Times(warm_up=1, main=3, others=2, paced=2)
QUICK = Times(warm_up=1, main=2, others=1, paced=1)
IDLE_CONNECTIONS = 10_000
_SPARE_FILES = 200
console = Console(width=140, highlight=False)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is then stopped on the way out
    _raise_file_limit()
    if options.real_time:
        # Whatever is started inherits it. The kernel still leaves others a twentieth of each second.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    environment = prepare()
    for name, why in environment.missing.items():
        console.print(f"[yellow]{name}: {why}[/]")
    with tempfile.TemporaryDirectory(prefix="yuanlian-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # nginx's worker may be another user
        return _run(options, environment, folder)


def _run(options: argparse.Namespace, environment: Environment, folder: Path) -> int:
    began = time.monotonic()
    times = QUICK if options.quick else FULL
    cores = _cores(pin=not options.no_pin)
    generator = best_generator(environment, folder, cores.others)
    contenders = _contenders(environment, folder, options.only)
    results = {one.key: Result(one.key, one.name, one.features, []) for one in contenders}
    idle = None
    with upstream(environment, _made(folder / "upstream"), cores.others) as port:
        stage = Stage(folder, port, cores, access_token())
        most = {one.key: direct(stage, generator, one, times.others) for one in SCENARIOS}
        for number in range(1, options.rounds + 1):
            for contender in contenders:
                console.print(f"[dim]round {number}: {contender.name}, {contender.features} …[/]")
                _one_round(contender, stage, generator, times, results)
        ours = next((one for one in contenders if isinstance(one, Yuanlian)), None)
        if ours is not None and results[ours.key].rounds:
            console.print(f"[dim]{ours.name}: {IDLE_CONNECTIONS:,} idle connections …[/]")
            idle = _idle(ours, stage, generator)
    results = {key: result for key, result in results.items() if result.rounds}
    met = goals(results, idle)
    if results:
        report.show(console, results, most, generator.name, idle, met)
    machine = describe(LIBRARIES) | environment.versions()
    where = (
        "not pinned" if cores.gateway is None else f"gateway on core {cores.gateway}, rest on {cores.others}"
    )
    console.print(f"{where}; {options.rounds} rounds, {time.monotonic() - began:.0f} s", style="dim")
    console.print(", ".join(f"{name} {version}" for name, version in machine.items()), style="dim")
    if options.save and results:
        _save(machine, cores, results, most, idle, met)
    return 1 if ours is not None and (ours.key not in results or results[ours.key].faults()) else 0


def _one_round(
    contender: Contender, stage: Stage, generator: Generator, times: Times, results: Mapping[str, Result]
) -> None:
    """One that cannot run here leaves its place empty, with the reason told."""
    run = _made(stage.run / contender.key)
    own = Stage(run, stage.upstream, stage.cores, stage.token)
    try:
        results[contender.key].rounds.append(measure(contender, own, generator, times))
    except (DidNotStartError, OSError, subprocess.SubprocessError) as error:
        console.print(f"{contender.name}: {error}", style="red", markup=False)
    finally:
        shutil.rmtree(run)  # access logs are large


def _idle(ours: Contender, stage: Stage, generator: Generator) -> Idle | None:
    own = Stage(_made(stage.run / "idle"), stage.upstream, stage.cores, stage.token)
    allowed = min(IDLE_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES)
    if allowed < IDLE_CONNECTIONS:
        console.print(f"[yellow]ulimit -n leaves room for {allowed:,} connections only[/]")
    try:
        return measure_idle(ours, own, generator, allowed)
    except (DidNotStartError, OSError, ValueError, subprocess.SubprocessError) as error:
        console.print(f"{ours.name}, idle: {error}", style="red", markup=False)
        return None


def _contenders(environment: Environment, folder: Path, only: list[str] | None) -> list[Contender]:
    found: list[Contender] = [*all_peers(environment), Yuanlian(folder / "data")]
    unknown = set(only or ()) - {one.key for one in found}
    if unknown:
        sys.exit(
            f"no such contender: {', '.join(sorted(unknown))}; there are {', '.join(c.key for c in found)}"
        )
    return [one for one in found if not only or one.key in only]


def _cores(*, pin: bool) -> Cores:
    available = sorted(os.sched_getaffinity(0))
    return Cores(available[0], available[1]) if pin and len(available) > 1 else Cores()


def _raise_file_limit() -> None:
    """For this process and all that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _made(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def _save(
    machine: dict[str, str],
    cores: Cores,
    results: Mapping[str, Result],
    most: Mapping[str, Flood],
    idle: Idle | None,
    met: list[Goal],
) -> None:
    document = {
        "machine": machine,
        "cores": {"gateway": cores.gateway, "others": cores.others},
        "realTime": os.sched_getscheduler(0) == os.SCHED_RR,
        "goals": met,
        "idle": idle,
        "direct": most,
        "results": list(results.values()),
    }
    save(RESULTS, document)
    for path in (RESULTS, *chart.write(results, RESULTS.parent)):
        console.print(f"wrote {path}", style="dim")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=None, help="3; with --quick 1")
    parser.add_argument("--quick", action="store_true", help="one short round, under 90 s")
    parser.add_argument(
        "--only", nargs="+", help="keys: nginx envoy-bare envoy traefik fastify express yuanlian"
    )
    parser.add_argument("--no-pin", action="store_true", help="let the system place the processes")
    parser.add_argument(
        "--real-time", action="store_true", help="before all others, where they use the machine, too (root)"
    )
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS} and the chart")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
