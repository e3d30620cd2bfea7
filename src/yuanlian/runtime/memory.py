"""What the process keeps in memory, and what it gives back."""

from __future__ import annotations

import ctypes
import gc

GC_ALLOCATIONS = 50_000
"""Net new containers before the youngest generation is collected. Some hundreds of requests in flight
hold far more than Python's default of 700, and none of it is garbage yet."""

LARGE_BLOCK = 1024 * 1024
"""Bytes from which a block of the C heap is the system's own mapping, returned when it is freed."""

SPARE = 4 * 1024 * 1024
"""Bytes that may lie free at the top of a C heap, so that it does not shrink and grow with every batch."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def start_up() -> None:
    """Call before the platform is imported and built: nearly all of what that makes stays.

    Left to itself, glibc takes a large block that was freed as a sign to keep such blocks: 19 MiB for
    every thread that ever checked a password (Argon2). A threshold that is set stays where it is
    (mallopt(3)); other C libraries have no such habit.
    """
    gc.disable()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, SPARE)


def settle() -> None:
    """Call when the platform is up: the collector need not look at what stays for good again and
    again, and what was of use only so far goes back to the system."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)
    gc.enable()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
