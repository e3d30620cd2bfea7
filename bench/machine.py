"""What a figure was measured on, and what a process cost."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


def describe(libraries: tuple[str, ...]) -> dict[str, str]:
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in libraries},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def cpu_us(pid: int) -> float:
    """User and system time of a process and all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US


def peak_memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def pinned(core: int | None) -> Callable[[], None] | None:
    """For ``Popen(preexec_fn=…)``: keeps a process and its threads on one core."""
    if core is None:
        return None
    return lambda: os.sched_setaffinity(0, {core})
