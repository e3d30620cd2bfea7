"""What a tenant's subscribers may have missed: the last events, bounded in number and bytes."""

from __future__ import annotations

import secrets
from collections import deque
from itertools import islice
from typing import NamedTuple

ENTRY_OVERHEAD = 256
"""Bytes an entry costs besides its frame: the tuple, its channels, its place in the queue."""


class Entry(NamedTuple):
    sequence: int
    channels: tuple[str, ...]
    frame: bytes

    @property
    def size(self) -> int:
        return len(self.frame) + ENTRY_OVERHEAD


class History:
    """One tenant's events in order. A cursor is ``"{epoch}-{sequence}"``; the epoch is random for
    each history, so that a cursor from before a restart, from a history since dropped, or of
    another tenant is never mistaken for one of ours."""

    __slots__ = ("_entries", "_floor", "_max_bytes", "_max_events", "epoch", "sequence", "size")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._floor = 0
        self.epoch = secrets.token_hex(8)
        self.sequence = 0
        self.size = 0

    def cursor(self, sequence: int | None = None) -> str:
        """The cursor of an event; without one, that of the newest."""
        return f"{self.epoch}-{self.sequence if sequence is None else sequence}"

    def append(self, channels: tuple[str, ...], frame: bytes) -> None:
        """Adds the event after the newest; the oldest make room."""
        self.sequence += 1
        entry = Entry(self.sequence, channels, frame)
        self._entries.append(entry)
        self.size += entry.size
        while len(self._entries) > self._max_events or self.size > self._max_bytes:
            oldest = self._entries.popleft()
            self._floor = oldest.sequence
            self.size -= oldest.size

    def since(self, cursor: str) -> list[Entry] | None:
        """What came after ``cursor``; None when that can no longer, or never could, be told."""
        epoch, _, position = cursor.partition("-")
        if epoch != self.epoch or not (position.isascii() and position.isdigit()) or len(position) > 18:
            return None
        sequence = int(position)
        if not self._floor <= sequence <= self.sequence:
            return None
        missed = self.sequence - sequence
        return list(islice(self._entries, len(self._entries) - missed, None))

    def forget(self) -> None:
        """Drops every event; cursors go on from where they are."""
        self._entries.clear()
        self._floor = self.sequence
        self.size = 0
