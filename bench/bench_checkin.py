"""Durable check-ins per second through the whole corridor, beside the same work done the usual way.

    make bench-checkin [ARGS="--seconds 10 --connections 128 --rate 1000 --no-pin --only ours"]

A scratch platform is filled, started as ``yuanlian up`` and driven through its public port by a second
process; each check-in is another child's, sent by a teacher of that child's class. Afterwards the rows
are counted: an acknowledged check-in that is not in every table makes the run fail. The rate limits,
the access log and the metrics are on, as shipped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.checkin.contender import Contender, Load, Measured
from bench.checkin.dataset import Dataset, request_plan
from bench.checkin.ours import Yuanlian
from bench.checkin.usual import UsualWay
from bench.machine import describe

LIBRARIES = ("uvloop", "httptools", "litestar", "msgspec", "sqlalchemy", "joserfc")
PEER_LIBRARIES = ("fastapi", "pydantic", "uvicorn", "starlette")
RESULTS = Path("bench/results/checkin.json")
# A class of fifty has one teacher, as at a gate: distinct users as well as distinct children.
DATASET = Dataset(tenants=50, teachers=40, classes=40, children=2_000, guardians=1)
console = Console(width=130, highlight=False)


def main() -> int:
    options = _options()
    cores = None if options.no_pin else (0, 1)
    with tempfile.TemporaryDirectory(prefix="yuanlian-bench-") as scratch:
        directory = Path(scratch)
        paced_plan, plan = _write_plans(directory, options.rate * (options.warm_up + options.seconds))
        load = Load(plan, options.seconds, options.warm_up, options.connections)
        paced = Load(paced_plan, options.seconds, options.warm_up, options.connections, options.rate)
        results: list[Measured] = []
        steady: list[Measured] = []
        for contender in _contenders(directory, cores, options.only, options.pools):
            console.print(f"[dim]{contender.name}: filling …[/]")
            contender.prepare(DATASET)
            with contender.serving() as (process, port):
                # A contender that is far from the rate would only show how long a queue can get.
                if options.rate and isinstance(contender, Yuanlian):
                    console.print(f"[dim]{contender.name}: {options.rate:g} a second …[/]")
                    steady.append(contender.measure(process, port, paced, DATASET.guardians))
                console.print(f"[dim]{contender.name}: as many as it takes …[/]")
                results.append(contender.measure(process, port, load, DATASET.guardians))
            if results[-1].outcome.failures:
                console.print(contender.log_tail(), markup=False)
    _report(results, steady, cores)
    if options.save:
        _save(results, steady, cores)
    return 1 if any(m.wrong or m.outcome.failures for m in results + steady) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1000.0, help="of the paced run; 0: no paced run")
    parser.add_argument("--only", choices=("ours", "usual"))
    parser.add_argument("--pools", type=int, nargs="+", default=[1, 5], help="pool sizes of the usual way")
    parser.add_argument("--no-pin", action="store_true", help="let the system place the processes")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS}")
    return parser.parse_args()


def _contenders(
    directory: Path, cores: tuple[int, int] | None, only: str | None, pools: Sequence[int]
) -> Iterator[Contender]:
    if only != "usual":
        yield Yuanlian(_made(directory / "ours"), cores)
    if only != "ours":
        for pool in pools:
            yield UsualWay(_made(directory / f"usual-{pool}"), cores, pool)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _write_plans(directory: Path, paced_requests: float) -> tuple[Path, Path]:
    """The children of the paced run are not those of the other: each is checked in once."""
    first = -(-int(paced_requests) // DATASET.tenants) + 1 if paced_requests else 0
    paths = directory / "paced.msgpack", directory / "plan.msgpack"
    for path, children in zip(paths, (range(first), range(first, DATASET.children)), strict=True):
        path.write_bytes(msgspec.msgpack.encode(request_plan(DATASET, children)))
    return paths


def _report(results: list[Measured], steady: list[Measured], cores: tuple[int, int] | None) -> None:
    table = Table(
        "", "check-ins/s", "p50 ms", "p99 ms", "CPU us per check-in", "told and counted after", "peak MiB"
    )
    for measured in results:
        outcome = measured.outcome
        table.add_row(
            measured.contender,
            f"{outcome.rate:,.0f}",
            f"{outcome.p50_ms:.1f}",
            f"{outcome.p99_ms:.1f}",
            f"{measured.cpu_us_per_checkin:,.0f}",
            f"{measured.drain_s:.2f} s ({measured.corridor_rate:,.0f}/s in all)",
            f"{measured.memory_mib:.0f}",
        )
    console.print(table)
    for measured in steady:
        outcome = measured.outcome
        console.print(
            f"{measured.contender} at {outcome.rate:,.0f} a second: p50 {outcome.p50_ms:.2f} ms, p99 "
            f"{outcome.p99_ms:.2f} ms, worst {outcome.max_ms:.1f} ms, all told {measured.drain_s:.2f} s after"
        )
    ratios = _ratios(results)
    if ratios:
        console.print(
            f"Ratio to the better of the usual ways: {ratios['checkins']:.1f} x the check-ins a second "
            f"({ratios['corridor']:.1f} x until everybody is told), {ratios['cpu']:.1f} x less CPU each."
        )
    for measured in results + steady:
        _report_checks(measured)
    pinning = f"server on core {cores[0]}, generator on core {cores[1]}" if cores else "processes not pinned"
    console.print(f"{pinning}; " + ", ".join(f"{k} {v}" for k, v in _machine().items()))


def _report_checks(measured: Measured) -> None:
    outcome = measured.outcome
    rows = ", ".join(f"{count} {name}" for name, count in measured.verified.items())
    console.print(f"[dim]{measured.contender}: {outcome.acknowledged} acknowledged; {rows}[/]")
    for problem in measured.wrong:
        console.print(f"[red]{measured.contender}: {problem}[/]")
    for status, count in outcome.failures.items():
        console.print(f"[red]{measured.contender}: {count} x {status}[/]")
    for sample in outcome.samples[:1]:
        console.print(sample, markup=False, soft_wrap=True)
    if outcome.exhausted:
        console.print(f"[red]{measured.contender}: ran out of children, the seconds are not full[/]")


def _ratios(results: list[Measured]) -> dict[str, float]:
    ours = [m for m in results if m.contender == Yuanlian.name]
    usual = [m for m in results if m.contender != Yuanlian.name and m.outcome.counted]
    if not ours or not usual:
        return {}
    best = max(usual, key=lambda m: m.outcome.rate)
    return {
        "checkins": ours[0].outcome.rate / best.outcome.rate,
        "corridor": ours[0].corridor_rate / best.corridor_rate,
        "cpu": best.cpu_us_per_checkin / ours[0].cpu_us_per_checkin,
    }


def _machine() -> dict[str, str]:
    return describe(LIBRARIES + PEER_LIBRARIES)


def _save(results: list[Measured], steady: list[Measured], cores: tuple[int, int] | None) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    document = {
        "machine": _machine(),
        "cores": cores,
        "dataset": msgspec.to_builtins(DATASET),
        "results": results,
        "steady": steady,
        "ratios": _ratios(results),
    }
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
