"""Keep-alive connections that were used once and then do nothing, held open until standard input closes.

    python -m bench.gateway.idle --port 8080 --connections 10000 < request

The request comes first on standard input, its length before it on a line of its own. Prints how many
connections are open, then waits. They come from many loopback addresses: a gateway may limit how many
one address has, and one address has few ports.
"""

from __future__ import annotations

import argparse
import gc
import socket
import sys

_PER_ADDRESS = 50


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--connections", type=int, required=True)
    options = arguments.parse_args()
    request = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
    gc.disable()
    kept: list[socket.socket] = []
    for number in range(options.connections):
        network, host = divmod(number // _PER_ADDRESS, 250)
        try:
            one = socket.create_connection(
                ("127.0.0.1", options.port),
                timeout=10.0,
                source_address=(f"127.0.{network + 1}.{host + 1}", 0),
            )
            one.sendall(request)
            if not one.recv(65536).startswith(b"HTTP/1.1 200"):
                break
        except OSError as error:
            print(f"connection {number}: {error}", file=sys.stderr)
            break
        kept.append(one)
    print(len(kept), flush=True)
    sys.stdin.buffer.read()
    print(sum(_still_open(one) for one in kept), flush=True)


def _still_open(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
