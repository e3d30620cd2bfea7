"""What commands print. On a terminal long cells are folded; elsewhere nothing is cut or folded, so that
``yuanlian tenants | grep …`` finds what it looks for."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table

UNFOLDED = 1000


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else UNFOLDED, highlight=False)


def table(*headings: str, title: str | None = None) -> Table:
    made = Table(box=box.SIMPLE, show_edge=False, title=title, title_justify="left")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def say(text: str, style: str | None = None) -> None:
    """One line, whatever is in it."""
    console().print(text, style=style, markup=False)
