"""The figures as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from bench.gateway.generator import Flood
from bench.gateway.goals import Goal
from bench.gateway.measure import Idle, Result
from bench.gateway.scenario import CROWD, GET, LARGE, POST


def show(
    console: Console,
    results: Mapping[str, Result],
    direct: Mapping[str, Flood],
    generator: str,
    idle: Idle | None,
    goals: Sequence[Goal],
) -> None:
    ours = results.get("yuanlian")
    console.print(_main_table(results, ours))
    console.print(_other_table(results))
    fastest = max((result.rate() for result in results.values()), default=0.0)
    most = direct[GET.key].rate
    console.print(
        f"Generator: {generator}; straight to the upstream it gets {most:,.0f} requests/s (100 KiB: "
        f"{direct[LARGE.key].rate:,.0f}, POST: {direct[POST.key].rate:,.0f}), {most / fastest:.1f} x the "
        f"fastest gateway" + ("." if most > 1.5 * fastest else ": too close, it may be what was measured.")
    )
    if idle is not None and idle.opened < idle.asked:
        console.print(f"[yellow]Only {idle.opened:,} of {idle.asked:,} idle connections could be opened.[/]")
    _show_goals(console, goals)
    for result in results.values():
        for fault in result.faults():
            console.print(f"[red]{result.name} ({result.features}): {fault}[/]")


def _main_table(results: Mapping[str, Result], ours: Result | None) -> Table:
    table = Table(
        *("", "does besides forwarding", "requests/s", "ours is", "p50 ms", "p99 ms", "CPU us each", "MiB"),
        title=f"{GET.title}, {GET.connections} connections, gateway on one core",
    )
    for result in sorted(results.values(), key=lambda one: -one.rate()):
        table.add_row(
            result.name,
            result.features,
            f"{result.rate():,.0f}",
            f"{ours.rate() / result.rate():.2f} x" if ours is not None and ours is not result else "",
            f"{result.p50_ms():.2f}",
            f"{result.p99_ms():.2f}",
            f"{result.cpu_us():.1f}",
            f"{result.memory_mib():.0f}",
            style="bold" if result is ours else None,
        )
    _align(table, 2)
    return table


def _other_table(results: Mapping[str, Result]) -> Table:
    table = Table(
        *("requests/s (CPU us each)", "", LARGE.title, POST.title, CROWD.title),
        *("half load, requests/s", "adds p50 ms", "adds p99 ms"),
    )
    for result in sorted(results.values(), key=lambda one: -one.rate()):
        table.add_row(
            result.name,
            result.features.partition(",")[0] + ("…" if "," in result.features else ""),
            *(f"{result.rate(s):,.0f} ({result.cpu_us(s):.0f})" for s in (LARGE, POST, CROWD)),
            f"{result.rounds[-1].half.through.rate:,.0f}",
            f"{result.added_p50_ms():.2f}",
            f"{result.added_p99_ms():.2f}",
            style="bold" if result.key == "yuanlian" else None,
        )
    _align(table, 2)
    return table


def _show_goals(console: Console, goals: Sequence[Goal]) -> None:
    table = Table("goal", "wanted", "measured", "")
    for goal in goals:
        verdict = "[green]met[/]" if goal.met else "[red]not met[/]"
        table.add_row(goal.what, goal.wanted, f"{goal.measured:.2f}", verdict)
    if goals:
        console.print(table)


def _align(table: Table, first: int) -> None:
    for column in table.columns[first:]:
        column.justify = "right"
