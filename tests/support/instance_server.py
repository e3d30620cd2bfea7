"""A service instance as a process of its own: ``python instance_server.py FILE``.

Prints its port, answers everything after a moment, and before that writes the ``x-operation`` of each
POST into FILE, where it survives the process.
"""

from __future__ import annotations

import asyncio
import os
import sys


async def main(file: str) -> None:
    done = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"POST"):
                    os.write(done, head.split(b"x-operation: ")[1].split(b"\r\n")[0] + b"\n")
                await asyncio.sleep(0.003)
                body = b"%d" % os.getpid()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
