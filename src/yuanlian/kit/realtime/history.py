"""What a tenant's subscribers may have missed: the last events, bounded in number and bytes."""

from __future__ import annotations

import secrets
from collections import deque
from itertools import islice

from yuanlian.kit.realtime.hub import Encode, Event

ENTRY_OVERHEAD = 256
"""Bytes an entry costs besides its frame: the entry, its channels, its place in the queue."""
UNENCODED_SIZE = 768
"""What an event counts for that nobody has received yet: its message is not made, only its parts."""


class Entry:
    """An event with its place, encoded for all its receivers when the first of them is there."""

    __slots__ = ("_encode", "_event", "_frame", "channels", "cursor", "size")

    def __init__(self, cursor: str, event: Event, encode: Encode) -> None:
        self.cursor = cursor
        self.channels = event.channels
        self._event: Event | None = event
        self._encode = encode
        self._frame = b""
        self.size = (UNENCODED_SIZE if callable(event.payload) else len(self.frame)) + ENTRY_OVERHEAD

    @property
    def frame(self) -> bytes:
        if self._event is not None:
            message = self._event.message()
            self._frame = self._encode({**message, "tenantId": self._event.tenant_id, "cursor": self.cursor})
            self._event = None
        return self._frame


class History:
    """One tenant's events in order. A cursor is ``"{epoch}-{sequence}"``; the epoch is random for
    each history, so that a cursor from before a restart, from a history since dropped, or of
    another tenant is never mistaken for one of ours."""

    __slots__ = ("_entries", "_floor", "_max_bytes", "_max_events", "epoch", "sequence", "size")

    def __init__(self, max_events: int, max_bytes: int, epoch: str = "", sequence: int = 0) -> None:
        """``epoch``, ``sequence``: where a history goes on that others have begun."""
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._floor = sequence
        self.epoch = epoch or secrets.token_hex(8)
        self.sequence = sequence
        self.size = 0

    def cursor(self, sequence: int | None = None) -> str:
        """The cursor of an event; without one, that of the newest."""
        return f"{self.epoch}-{self.sequence if sequence is None else sequence}"

    def append(self, event: Event, encode: Encode) -> Entry:
        """Adds the event after the newest; the oldest make room."""
        entry = Entry(self.cursor(self.sequence + 1), event, encode)
        self.sequence += 1
        self._entries.append(entry)
        self.size += entry.size
        while len(self._entries) > self._max_events or self.size > self._max_bytes:
            self.size -= self._entries.popleft().size
            self._floor += 1
        return entry

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
