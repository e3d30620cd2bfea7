"""What the figures are held against: issue and DESIGN §7."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bench.gateway.measure import Idle, Result

_AT_LEAST = (
    ("envoy", "Envoy, same features", 1.2),
    ("traefik", "Traefik", 2.5),
    ("express", "Express + axios", 30.0),
    ("nginx", "nginx, which only forwards", 0.6),
)
ADDED_P99_MS = 1.0
IDLE_KIB = 15.0


class Goal(msgspec.Struct):
    what: str
    wanted: str
    measured: float
    met: bool


def goals(results: Mapping[str, Result], idle: Idle | None) -> list[Goal]:
    """Of those that were measured."""
    ours = results.get("yuanlian")
    if ours is None:
        return []
    found = []
    for key, name, wanted in _AT_LEAST:
        if key in results:
            ratio = ours.rate() / results[key].rate()
            found.append(Goal(f"requests/s beside {name}", f"≥ {wanted:g} x", ratio, ratio >= wanted))
    added, undisturbed = ours.added_p99_ms(), ours.direct_p99_ms() <= ADDED_P99_MS
    what = "p99 added at half load, ms" + ("" if undisturbed else " (the machine was too busy to tell)")
    found.append(Goal(what, f"≤ {ADDED_P99_MS:g}", added, added <= ADDED_P99_MS and undisturbed))
    if idle is not None:
        whole = idle.opened == idle.asked == idle.kept
        what = f"KiB for each of {idle.opened:,} idle connections"
        found.append(Goal(what, f"≤ {IDLE_KIB:g}", idle.kib_each, whole and idle.kib_each <= IDLE_KIB))
    return found
