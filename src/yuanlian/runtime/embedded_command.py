"""``yuanlian up``: what a person sees of the launcher."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from yuanlian.kit.observe.logs import configure
from yuanlian.runtime.datadir import DataDirLock
from yuanlian.runtime.demo.accounts import NAMED, PASSWORD
from yuanlian.runtime.demo.load import load_demo
from yuanlian.runtime.launcher import run
from yuanlian.runtime.listening import Addresses
from yuanlian.runtime.settings import Settings


def up(settings: Settings, *, demo: bool) -> None:
    """Runs until told to stop. On a terminal logs are for people; elsewhere stdout has LogEntry lines
    only, and the greeting goes to stderr.

    Raises:
        one of ``refusals.REFUSALS``: the platform did not start; nothing is left running.
    """
    terminal = sys.stdout.isatty()
    log = configure("yuanlian", settings.log_level, console=terminal)
    console = Console(stderr=not terminal)

    def greet(addresses: Addresses) -> None:
        _greet(console, addresses, demo=demo)

    with DataDirLock(settings.data_dir):
        run(settings, log, load=load_demo if demo else None, ready=greet)


def _greet(console: Console, addresses: Addresses, *, demo: bool) -> None:
    console.print(f"\n[bold]园联 Yuanlian[/bold]  {addresses.public}   接口文档 {addresses.public}/docs")
    console.print(f"管理端 admin       {addresses.admin}/health  /metrics  /routes  /services")
    if demo:
        table = Table(title=f"演示账号 demo accounts，密码 password: {PASSWORD}", title_justify="left")
        for heading in ("账号", "姓名", "租户", "说明"):
            table.add_column(heading)
        for person in NAMED:
            table.add_row(person.username, person.name, "\n".join(person.roles), person.about)
        console.print(table)
    console.print("Ctrl-C 停止 stops it.\n")
