"""Somebody who listens where an instance did."""

from __future__ import annotations

import socket
import threading
import time

_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Impostor(threading.Thread):
    """Answers everything with 503, health checks too. ``asked``: when, on the monotonic clock, and for
    what."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self._listener.settimeout(0.2)
        self._enough = threading.Event()
        self.asked: list[tuple[float, str]] = []

    def run(self) -> None:
        while not self._enough.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection:
                self._serve(connection)
        self._listener.close()

    def finish(self) -> None:
        self._enough.set()
        self.join(timeout=10)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(1.0)
        try:
            head = connection.recv(65536)
            if head:
                self.asked.append((time.monotonic(), head.split(b"\r\n")[0].decode("latin-1")))
                connection.sendall(_ANSWER)
        except OSError:
            return  # the gateway closed first
