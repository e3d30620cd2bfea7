"""What a figure was measured on, and what a process cost."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


def save(path: Path, document: Mapping[str, Any]) -> None:
    """A run's figures, for whoever compares."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def describe(libraries: tuple[str, ...]) -> dict[str, str]:
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": _python(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in libraries},
    }


def debian(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those that are installed as packages."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *packages]
    try:
        printed = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30).stdout
    except OSError:
        return {}
    return dict(line.split(" ", 1) for line in printed.splitlines() if line.count(" ") == 1)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _python() -> str:
    """A system's own is compiled with a profile of itself and linked in one piece, which makes it a tenth
    faster than a plain build; it does not say so anywhere."""
    return (
        f"{platform.python_version()} ({'of the system' if sys.base_prefix == '/usr' else 'another build'})"
    )


def cpu_us(pid: int) -> float:
    """User and system time of a process and all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US


def peak_memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def hurry(pids: Iterable[int], nice: int) -> None:
    """Sets these processes before all others, where they use the machine, too. Linux shares the processor
    between sessions first, so that the niceness of a process alone says nothing to those of other sessions.
    Not real time: that would starve the kernel's own disk workers."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text(str(nice))


def pinned(core: int | None) -> Callable[[], None] | None:
    """For ``Popen(preexec_fn=…)``: keeps a process and its threads on one core."""
    if core is None:
        return None
    return lambda: os.sched_setaffinity(0, {core})
