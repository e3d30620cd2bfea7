"""RFC 6455 on ``/ws``, byte by byte."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
from tests.support.websocket import WAIT_S, Edge, on_both_loops

HANDSHAKE_LINES = [
    b"GET /ws HTTP/1.1",
    b"Host: x",
    b"Upgrade: websocket",
    b"Connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
]
HANDSHAKE = b"\r\n".join([*HANDSHAKE_LINES, b"", b""])

CONT, TEXT, BINARY, CLOSE, PING = 0x0, 0x1, 0x2, 0x8, 0x9


def frame(data: bytes, opcode: int = TEXT, *, fin: bool = True, masked: bool = True) -> bytes:
    """A client frame under a mask of zeros."""
    assert len(data) < 65_536
    mask = 0x80 if masked else 0
    length = (
        struct.pack("!B", mask | len(data)) if len(data) < 126 else struct.pack("!BH", mask | 126, len(data))
    )
    return bytes([(0x80 if fin else 0) | opcode]) + length + (b"\0\0\0\0" if masked else b"") + data


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(WAIT_S):
            first, length = await self._reader.readexactly(2)
            assert first & 0x70 == 0
            if length == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            return first & 0xF, await self._reader.readexactly(length)

    async def message(self) -> dict[str, Any]:
        opcode, data = await self.frame()
        assert opcode == TEXT
        message: dict[str, Any] = json.loads(data)
        return message

    async def close_code(self) -> int:
        """The code of the close frame, after which the server sends nothing but the end."""
        opcode, data = await self.frame()
        assert opcode == CLOSE
        async with asyncio.timeout(WAIT_S):
            assert await self._reader.read() == b""
        return int(struct.unpack("!H", data[:2])[0])


async def opened(edge: Edge, behind: bytes = b"") -> Wire:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(HANDSHAKE + behind)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert b"extensions" not in head.lower()
    return Wire(reader, writer)


def auth(edge: Edge) -> bytes:
    return json.dumps({"type": "auth", "tenantId": "a", "token": edge.token()}).encode()


async def signed_in(edge: Edge) -> Wire:
    wire = await opened(edge, frame(auth(edge)))
    assert (await wire.message())["type"] == "auth_success"
    return wire


def test_frames_sent_together_with_the_handshake_are_read() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            wire = await opened(edge, frame(auth(edge)) + frame(b'{"type":"ping","timestamp":1}'))
            assert (await wire.message())["type"] == "auth_success"
            assert await wire.message() == {"type": "pong", "timestamp": 1}
            wire.writer.close()

    on_both_loops(scenario)


def test_frames_that_arrive_byte_by_byte_are_read() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            wire = await opened(edge)
            for byte in frame(auth(edge)):
                wire.writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await wire.message())["type"] == "auth_success"
            wire.writer.close()

    on_both_loops(scenario)


def test_a_fragmented_message_with_a_ping_inside_is_put_together() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            wire = await signed_in(edge)
            wire.writer.write(
                frame(b'{"type":"pi', fin=False)
                + frame(b"hello", PING)
                + frame(b'ng","timesta', CONT, fin=False)
                + frame(b'mp":3}', CONT)
            )
            answers = [await wire.frame(), await wire.frame()]
            assert (0xA, b"hello") in answers
            assert (TEXT, b'{"type":"pong","timestamp":3}') in answers
            wire.writer.close()

    on_both_loops(scenario)


def test_fragments_of_more_than_64_kib_in_all_end_the_connection() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            wire = await signed_in(edge)
            wire.writer.write(frame(b"x" * 40_000, fin=False) + frame(b"x" * 40_000, CONT))
            assert await wire.close_code() == 1009
            wire.writer.close()

    on_both_loops(scenario)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b"{}", masked=False), 1002),
        (frame(b"{}", 0x3), 1002),
        (bytes([0x81 | 0x40, 0x80, 0, 0, 0, 0]), 1002),
        (frame(b"{}", CONT), 1002),
        (frame(b"{}", PING, fin=False), 1002),
        (frame(struct.pack("!H", 1005), CLOSE), 1002),
        (frame(b"", TEXT) * 100, 4429),
        (frame(b"", PING) * 100, 4429),
        (frame(b"", fin=False) + frame(b"", CONT, fin=False) * 100, 4429),
    ],
    ids=[
        "unmasked",
        "unknown opcode",
        "reserved bit",
        "continuation of nothing",
        "fragmented ping",
        "forbidden close code",
        "empty messages",
        "pings",
        "endless fragments",
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(sent: bytes, code: int) -> None:
    async def scenario() -> None:
        async with Edge(max_malformed=1000) as edge:
            wire = await signed_in(edge)
            wire.writer.write(sent)
            while True:
                opcode, data = await wire.frame()
                if opcode == CLOSE:
                    break
            assert struct.unpack("!H", data[:2]) == (code,)
            wire.writer.close()
            await edge.deserted()

    on_both_loops(scenario)


def test_a_broken_frame_right_behind_a_refused_message_ends_the_connection_too() -> None:
    """The protocol has begun to close when the refusal wants to: once, the connection then stayed open
    for anybody who had not said who they were."""

    async def scenario() -> None:
        async with Edge() as edge:
            wire = await opened(edge, frame(b"x", BINARY) + frame(b"reserved", 0x6))
            assert (await wire.message())["type"] == "auth_error"
            assert await wire.close_code() == 1002
            wire.writer.close()
            await edge.deserted()

    on_both_loops(scenario)


def test_a_clients_close_frame_is_answered_with_the_same_code_and_the_end() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            wire = await signed_in(edge)
            wire.writer.write(frame(struct.pack("!H", 1000), CLOSE))
            assert await wire.close_code() == 1000
            wire.writer.close()
            await edge.deserted()

    on_both_loops(scenario)


def test_a_client_that_leaves_in_the_middle_of_a_frame_is_forgotten() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            wire = await signed_in(edge)
            wire.writer.write(frame(b'{"type":"ping"}')[:5])
            wire.writer.write_eof()
            await edge.deserted()
            wire.writer.close()

    on_both_loops(scenario)


@pytest.mark.parametrize(
    ("lost", "instead", "status"),
    [
        (b"Sec-WebSocket-Key", None, 400),
        (b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: short", 400),
        (b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: 8", 400),
    ],
)
def test_a_faulty_handshake_is_refused_in_http(lost: bytes, instead: bytes | None, status: int) -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            lines = [line for line in HANDSHAKE_LINES if not line.startswith(lost)]
            lines += [instead] if instead else []
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(b"\r\n".join([*lines, b"", b""]))
            async with asyncio.timeout(WAIT_S):
                assert (await reader.readline()).split()[1] == str(status).encode()
                await reader.read()
            writer.close()
            assert (edge.observer.opened, edge.endpoint.connections) == (0, 0)

    on_both_loops(scenario)


def test_a_full_endpoint_refuses_with_503() -> None:
    async def scenario() -> None:
        async with Edge(max_connections=1) as edge:
            await edge.sign_in()
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(HANDSHAKE)
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
            writer.close()

    on_both_loops(scenario)
