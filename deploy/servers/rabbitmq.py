"""One RabbitMQ node, apart from any other on the machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from deploy.servers.server import START_S, STOP_S, Server, ServerError, listens, quiet_ports

USER, PASSWORD = "yuanlian", "rabbitmq-of-one-machine"  # on loopback, in a directory of its own
_LIB = Path("/usr/lib/rabbitmq/lib")
# What the node has written is in a directory of this name, and in the names of its queues' logs: another
# name begins with nothing.
_NODE = "yuanlian@localhost"

# A laptop's share: publishers are held up above 1 GiB, and a quorum queue's log is cut off early.
_CONFIGURATION = f"""
listeners.tcp.1 = 127.0.0.1:%d
default_user = {USER}
default_pass = {PASSWORD}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 67108864
log.console = true
log.console.level = warning
log.file = false
"""


class RabbitMq(Server):
    """Debian's ``/usr/sbin/rabbitmq-server`` wants its own user; the node beneath runs as anybody.

    Every node has an ``epmd`` of its own (the process in which Erlang nodes find one another), so that
    neither a node that is installed as a service nor its ``epmd`` is met, nor another of the same name.
    """

    name = "rabbitmq"

    def __init__(self, directory: Path, port: int = 0) -> None:
        super().__init__(directory, port)
        self._epmd_port, self._distribution_port = quiet_ports(2)
        self._epmd: subprocess.Popen[bytes] | None = None

    @classmethod
    def installed(cls) -> bool:
        return _scripts() is not None and shutil.which("epmd") is not None

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/"

    def prepare(self) -> None:
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(0o600)
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        (self.directory / "rabbitmq.conf").write_text(_CONFIGURATION % self.port)
        (self.directory / "enabled_plugins").write_text("[].\n")
        self._start_epmd()

    def command(self) -> list[str]:
        return [str(_script("rabbitmq-server"))]

    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return inherited | {
            "HOME": str(self.directory),
            # The script then becomes the server, so that a signal to it is one to the server.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),  # there is none
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),  # nor this
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.directory / "rabbitmq.pid"),
        }

    def answers(self) -> bool:
        """Whether the greeting is answered: its listener opens last."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def close_connections(self) -> None:
        """Cuts off every client; they may come back."""
        self.control("close_all_connections", "a test of reconnecting")

    def control(self, *words: str) -> str:
        """What ``rabbitmqctl`` says.

        Raises:
            ServerError: it failed.
        """
        done = subprocess.run(
            [str(_script("rabbitmqctl")), "--quiet", "--node", _NODE, *words],
            capture_output=True,
            text=True,
            timeout=START_S,
            env=self.environment(),
        )
        if done.returncode:
            raise ServerError(f"rabbitmqctl {words[0]}: {done.stdout[-500:]} {done.stderr[-500:]}")
        return done.stdout

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            epmd.wait(STOP_S)

    def _start_epmd(self) -> None:
        if self._epmd is not None:
            return
        self._epmd = subprocess.Popen(
            ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_S
        while not listens(self._epmd_port):
            if self._epmd.poll() is not None or time.monotonic() > deadline:
                raise ServerError("epmd did not start")
            time.sleep(0.02)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            if self._epmd is not None:
                self._epmd.kill()


def _scripts() -> Path | None:
    return max(_LIB.glob("rabbitmq_server-*/sbin"), default=None)


def _script(name: str) -> Path:
    scripts = _scripts()
    if scripts is None:
        raise ServerError("rabbitmq-server is not installed")
    return scripts / name
