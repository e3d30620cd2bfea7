"""The metrics of one process at one moment, as they travel to the process that shows those of several."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["counter", "gauge"]
Together = Literal["sum", "min", "max"]


class SeriesSnapshot(msgspec.Struct, array_like=True, frozen=True):
    """``statuses``: requests by status. ``buckets``: requests by duration, each in one bucket."""

    method: str
    route: str
    tenant: str
    statuses: dict[int, int]
    buckets: list[int]
    seconds: float


class WatchedSnapshot(msgspec.Struct, frozen=True):
    """``values``: by value of the one label."""

    name: str
    documentation: str
    label: str
    kind: Kind
    together: Together
    values: dict[str, float]


class Snapshot(msgspec.Struct, frozen=True):
    """``process``: the standard ``process_*`` metrics by name."""

    series: list[SeriesSnapshot] = []
    connections: dict[str, int] = {}
    watched: list[WatchedSnapshot] = []
    process: dict[str, float] = {}
