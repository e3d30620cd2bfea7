"""``yuanlian run``: parts of the platform in processes of their own."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from functools import partial

from rich.console import Console

from yuanlian.kit.observe.logs import Log, configure
from yuanlian.runtime.datadir import DataDirLock
from yuanlian.runtime.listening import Addresses
from yuanlian.runtime.replica import end_with_parent, tell_parent
from yuanlian.runtime.servers import USED_BY_GATEWAYS, refuse_unfit
from yuanlian.runtime.settings import Settings, UnsupportedSettingError


def gateway(settings: Settings) -> None:
    """Raises:
    what ``edge_process.run`` does: it did not start; nothing is left running.
    """
    console, log = _speak("gateway", settings)
    if settings.is_distributed:
        asyncio.run(refuse_unfit(settings, USED_BY_GATEWAYS))
    from yuanlian.runtime import edge_process, supervisor  # asked first: these take their time

    def greet(addresses: Addresses) -> None:
        console.print(f"\n[bold]园联 Yuanlian[/bold] gateway  {addresses.public}")
        console.print(f"管理端 admin           {addresses.admin}/health  /metrics  /routes  /services\n")

    run = edge_process.run if settings.workers == 1 else supervisor.run
    run(settings, log, greet)


def services(settings: Settings, *, demo: bool) -> None:
    """Raises:
    what ``launcher.run`` does: it did not start; nothing is left running.
    """
    from yuanlian.runtime import launcher
    from yuanlian.runtime.demo.load import load_demo
    from yuanlian.runtime.wiring import services as wire

    _refuse_public(settings.services_host)
    console, log = _speak("services", settings)

    def greet(addresses: Addresses) -> None:
        console.print(
            f"\n[bold]园联 Yuanlian[/bold] services  {addresses.public}   只供网关 for gateways only"
        )
        console.print(f"管理端 admin            {addresses.admin}/health  /metrics  /services\n")

    with DataDirLock(settings.data_dir):
        launcher.run(settings, log, wire=wire, load=load_demo if demo else None, ready=greet)


def service(name: str, settings: Settings, *, demo: bool, replica: bool = False) -> None:
    """``replica``: one of several, with a parent.

    Raises:
        what ``launcher.run`` does: it did not start; nothing is left running.
    """
    from yuanlian.runtime.service_wiring import refuse_embedded
    from yuanlian.runtime.service_wiring import service as wire

    _refuse_public(settings.services_host)
    refuse_embedded(settings)
    console, log = _speak(name, settings)
    if replica:
        end_with_parent(settings.drain_s)
    asyncio.run(refuse_unfit(settings))
    from yuanlian.runtime import launcher  # asked first: these take their time
    from yuanlian.runtime.demo.load import load_demo

    def greet(addresses: Addresses) -> None:
        if replica:
            tell_parent()
        console.print(f"\n[bold]园联 Yuanlian[/bold] {name}  {addresses.public}   只供网关 for gateways only")
        console.print(f"管理端 admin  {addresses.admin}/health  /metrics  /services\n")

    launcher.run(settings, log, wire=partial(wire, name), load=load_demo if demo else None, ready=greet)


def _speak(part: str, settings: Settings) -> tuple[Console, Log]:
    """On a terminal logs are for people; elsewhere stdout has LogEntry lines only. ``part``: the service in
    each, by which lines that are collected from all parts can be told apart."""
    terminal = sys.stdout.isatty()
    log = configure(part, settings.log_level, console=terminal, shared=settings.workers > 1)
    return Console(stderr=not terminal, highlight=False), log


def _refuse_public(host: str) -> None:
    """The listener believes its peers about where a request came from; limits on guessing passwords
    depend on that.

    Raises:
        UnsupportedSettingError: the address is one of the internet's.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name of the inside, such as a container's
    if address.is_global:
        raise UnsupportedSettingError(
            f"YUANLIAN_SERVICES_HOST: {host} is a public address; services are for gateways only"
        )
