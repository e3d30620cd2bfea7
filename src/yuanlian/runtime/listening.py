"""Opening listeners, with a plain word when that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yuanlian.gateway.handler import Handler
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.peers import nobody
from yuanlian.gateway.server import GatewayServer
from yuanlian.runtime.refusals import Refusal


@dataclass(frozen=True)
class Addresses:
    public: str
    admin: str


class AddressInUseError(Refusal):
    """A port is taken; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A listener to be opened. ``setting``: the one that chooses another port. ``exempt``: whose
    connections are not counted."""

    handler: Handler
    host: str
    port: int
    setting: str
    exempt: Callable[[str], bool] = nobody


def everybody(address: str) -> bool:
    """Of gateways, each has many connections."""
    del address
    return True


def server_for(listening: Listening, observer: Observer) -> GatewayServer:
    return GatewayServer(listening.handler, observer, exempt=listening.exempt)


async def listen(server: GatewayServer, listening: Listening) -> str:
    """The base URL of the server, which listens now.

    Raises:
        AddressInUseError
    """
    host, port = listening.host, listening.port
    try:
        bound = await server.start(host, port)
    except OSError as error:
        raise AddressInUseError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); "
            f"is another process there? choose another port with {listening.setting}"
        ) from None
    return f"http://{host}:{bound}"
