"""Durable check-ins per second through the whole corridor, beside the same work done the usual way.

    make bench-checkin [ARGS="--seconds 10 --connections 128 --rate 1000 --no-pin --only ours"]
    make bench-checkin SHAPE=distributed [ARGS="--nice -15 --rate 0 --only ours --connections 512"]

A scratch platform is filled, started as ``yuanlian up`` and driven through its public port by a second
process. With ``SHAPE=distributed`` it is a gateway and a process per service over MariaDB, RabbitMQ and
Redis, all on the same cores, beside the specification's own stack over the same servers. Each check-in is
another child's, sent by a teacher of that child's class. Afterwards the rows are counted: an acknowledged
check-in that is not in every table makes the run fail. The rate limits, the access log and the metrics
are on, as shipped.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.console import Console

from bench.checkin.contender import Contender, Load, Measured
from bench.checkin.dataset import Dataset, request_plan
from bench.checkin.express import ExpressStack
from bench.checkin.ours import Yuanlian
from bench.checkin.ours_spread import YuanlianSpread
from bench.checkin.report import print_report, ratios
from bench.checkin.usual import UsualWay
from bench.gateway.environment import Environment, add_node
from bench.machine import debian, describe, hurry, save

LIBRARIES = ("uvloop", "httptools", "litestar", "msgspec", "sqlalchemy", "joserfc")
PEER_LIBRARIES = ("fastapi", "pydantic", "uvicorn", "starlette")
SPREAD_LIBRARIES = ("asyncmy", "aiormq", "redis")
PEER_MODULES = ("express", "axios", "express-rate-limit", "jsonwebtoken", "mysql2", "amqplib")
PACKAGES = ("mariadb-server", "rabbitmq-server", "redis-server", "nodejs")
RESULTS = {
    "embedded": Path("bench/results/checkin.json"),
    "distributed": Path("bench/results/checkin-distributed.json"),
}
# How many at once a side answers best is its own affair: each is measured with all, the best of its rates
# counts. One address may have a thousand connections, as shipped.
AT_ONCE = {"embedded": [128], "distributed": [64, 256, 512, 900]}
# A class of fifty has one teacher, as at a gate: distinct users as well as distinct children.
DATASETS = {
    "embedded": Dataset(tenants=50, teachers=40, classes=40, children=2_000, guardians=1),
    "distributed": Dataset(tenants=50, teachers=100, classes=100, children=5_000, guardians=1),
}
console = Console(width=130, highlight=False)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is then stopped on the way out
    cores = None if options.no_pin or options.shape == "distributed" else (0, 1)
    dataset = DATASETS[options.shape]
    environment = Environment()
    if options.shape == "distributed" and options.only != "ours":
        add_node(environment)
        for name, why in environment.missing.items():
            console.print(f"[yellow]{name}: {why}[/]")
    with tempfile.TemporaryDirectory(prefix="yuanlian-bench-") as scratch:
        directory = Path(scratch)
        seconds = options.warm_up + options.seconds
        paced_plan, *plans = _write_plans(
            directory, dataset, options.rate * seconds, len(options.connections)
        )
        timing = options.seconds, options.warm_up
        paced = Load(paced_plan, *timing, max(options.connections), options.rate)
        loads = [Load(plan, *timing, n) for plan, n in zip(plans, options.connections, strict=True)]
        results: list[Measured] = []
        steady: list[Measured] = []
        for contender in _contenders(options, directory, cores, environment):
            with closing(contender):
                console.print(f"[dim]{contender.name}: filling …[/]")
                contender.prepare(dataset)
                with contender.serving() as served:
                    if options.nice:
                        hurry([os.getpid(), *served.processes.values()], options.nice)
                    # A contender that is far from the rate would only show how long a queue can get.
                    if options.rate and contender.ours:
                        console.print(f"[dim]{contender.name}: {options.rate:g} a second …[/]")
                        steady.append(contender.measure(served, paced, dataset.guardians))
                    for load in loads:
                        console.print(
                            f"[dim]{contender.name}: as many as it takes, {load.connections} at once …[/]"
                        )
                        results.append(contender.measure(served, load, dataset.guardians))
                if any(m.outcome.failures or m.wrong for m in results[-len(loads) :]):
                    console.print(contender.log_tail(), markup=False)
    machine = _machine(options.shape, environment)
    print_report(console, results, steady, cores, machine)
    if any(m.wrong or m.outcome.failures for m in results + steady):
        return 1
    if any(m.outcome.exhausted for m in results + steady):
        return 1  # its seconds were not full
    if options.save:
        _save(options.shape, results, steady, cores, machine)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=tuple(RESULTS), default="embedded")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--connections", type=int, nargs="+", help="one flood with each of these at once")
    parser.add_argument("--rate", type=float, default=1000.0, help="of the paced run; 0: no paced run")
    parser.add_argument("--only", choices=("ours", "usual"), help="one side")
    parser.add_argument("--pools", type=int, nargs="+", default=[1, 5], help="pool sizes of the usual way")
    parser.add_argument("--no-pin", action="store_true", help="let the system place the processes")
    parser.add_argument(
        "--nice", type=int, default=0, help="-15: before all others, where they use the machine, too (root)"
    )
    parser.add_argument("--save", action="store_true", help="write it into bench/results/")
    options = parser.parse_args()
    options.connections = options.connections or AT_ONCE[options.shape]
    return options


def _contenders(
    options: argparse.Namespace, directory: Path, cores: tuple[int, int] | None, environment: Environment
) -> Iterator[Contender]:
    if options.shape == "distributed":
        if options.only != "usual":
            yield YuanlianSpread(_made(directory / "ours"))
        if "node" in environment.programs:
            yield ExpressStack(_made(directory / "express"), environment)
        return
    if options.only != "usual":
        yield Yuanlian(_made(directory / "ours"), cores)
    if options.only != "ours":
        for pool in options.pools:
            yield UsualWay(_made(directory / f"usual-{pool}"), cores, pool)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _write_plans(directory: Path, dataset: Dataset, paced_requests: float, floods: int) -> list[Path]:
    """One for the paced run, then one for each flood. Each child is checked in once."""
    first = -(-int(paced_requests) // dataset.tenants) + 1 if paced_requests else 0
    ends = [first + (dataset.children - first) * number // floods for number in range(1, floods + 1)]
    paths = []
    for number, (begin, end) in enumerate(pairwise([0, first, *ends])):
        paths.append(directory / f"plan-{number}.msgpack")
        paths[-1].write_bytes(msgspec.msgpack.encode(request_plan(dataset, range(begin, end))))
    return paths


def _machine(shape: str, environment: Environment) -> dict[str, str]:
    if shape == "embedded":
        return describe(LIBRARIES + PEER_LIBRARIES)
    return describe(LIBRARIES + SPREAD_LIBRARIES) | debian(PACKAGES) | _npm(environment)


def _npm(environment: Environment) -> dict[str, str]:
    """What the peer is made of."""
    return {name: version for name, version in environment.versions().items() if name in PEER_MODULES}


def _save(
    shape: str,
    results: list[Measured],
    steady: list[Measured],
    cores: tuple[int, int] | None,
    machine: dict[str, str],
) -> None:
    document = {
        "machine": machine,
        "cores": cores,
        "dataset": msgspec.to_builtins(DATASETS[shape]),
        "results": results,
        "steady": steady,
        "ratios": ratios(results),
    }
    save(RESULTS[shape], document)


if __name__ == "__main__":
    sys.exit(main())
