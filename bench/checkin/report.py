"""What a run of ``make bench-checkin`` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench.checkin.contender import Measured

OURS = "园联"


def print_report(
    console: Console,
    results: list[Measured],
    steady: list[Measured],
    cores: tuple[int, int] | None,
    machine: dict[str, str],
) -> None:
    table = Table(
        "",
        "at once",
        "check-ins/s",
        "p50 ms",
        "p99 ms",
        "CPU us per check-in",
        "told and counted after",
        "peak MiB",
    )
    for measured in results:
        outcome = measured.outcome
        table.add_row(
            measured.contender,
            f"{measured.connections}",
            f"{outcome.rate:,.0f}",
            f"{outcome.p50_ms:.1f}",
            f"{outcome.p99_ms:.1f}",
            f"{measured.cpu_us_per_checkin:,.0f}",
            f"{measured.drain_s:.2f} s ({measured.corridor_rate:,.0f}/s in all)",
            f"{measured.memory_mib:.0f}",
        )
    console.print(table)
    if any(len(measured.cpu_us_by_process) > 1 for measured in results):
        console.print(_by_process(results + steady))
    for measured in steady:
        outcome = measured.outcome
        console.print(
            f"{measured.contender} at {outcome.rate:,.0f} a second: p50 {outcome.p50_ms:.2f} ms, p99 "
            f"{outcome.p99_ms:.2f} ms, worst {outcome.max_ms:.1f} ms, all told {measured.drain_s:.2f} s after"
        )
    better = ratios(results)
    if better:
        console.print(
            f"Ratio of the best to the best of the others: {better['checkins']:.1f} x the check-ins a second "
            f"({better['corridor']:.1f} x until everybody is told), {better['cpu']:.1f} x less CPU each."
        )
    for measured in results + steady:
        _print_checks(console, measured)
    pinning = f"server on core {cores[0]}, generator on core {cores[1]}" if cores else "processes not pinned"
    console.print(f"{pinning}; " + ", ".join(f"{k} {v}" for k, v in machine.items()))


def _print_checks(console: Console, measured: Measured) -> None:
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


def ratios(results: list[Measured]) -> dict[str, float]:
    """Our best by their best, figure by figure, whatever number at once either was reached with."""
    ours = [m for m in results if m.contender.startswith(OURS)]
    usual = [m for m in results if not m.contender.startswith(OURS) and m.outcome.counted]
    if not ours or not usual:
        return {}
    rate, theirs = (max(m.outcome.rate for m in side) for side in (ours, usual))
    corridor, their_corridor = (max(m.corridor_rate for m in side) for side in (ours, usual))
    cpu, their_cpu = (min(m.cpu_us_per_checkin for m in side) for side in (ours, usual))
    return {
        "checkins": rate / theirs,
        "corridor": corridor / their_corridor,
        "cpu": their_cpu / cpu,
    }


def _by_process(measured: list[Measured]) -> Table:
    names = list(dict.fromkeys(name for one in measured for name in one.cpu_us_by_process))
    table = Table("CPU us per check-in", *names, "all")
    for one in measured:
        used = [one.cpu_us_by_process.get(name) for name in names]
        cells = ["" if us is None else f"{us:,.0f}" for us in used]
        table.add_row(f"{one.contender}, {one.connections} at once", *cells, f"{one.cpu_us_per_checkin:,.0f}")
    return table
