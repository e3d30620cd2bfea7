"""Redis, alone or as a cluster of masters."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

from deploy.servers.server import START_S, Server, ServerError, quiet_ports

PASSWORD = "redis-of-one-machine"  # on loopback, in a directory of its own


class Redis(Server):
    """Keeps nothing on disk: what the platform puts here can be made again (DESIGN §8)."""

    name = "redis"

    def __init__(self, directory: Path, port: int = 0, *, cluster: bool = False) -> None:
        super().__init__(directory, port)
        self._bus_port = quiet_ports(1)[0] if cluster else None

    @classmethod
    def installed(cls) -> bool:
        return shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def nodes_file(self) -> Path:
        """Whom a node of a cluster knows."""
        return self.directory / "nodes.conf"

    def prepare(self) -> None:
        pass

    def command(self) -> list[str]:
        command = [shutil.which("redis-server") or "redis-server", "--bind", "127.0.0.1"]
        command += ["--port", str(self.port), "--dir", str(self.directory)]
        command += ["--requirepass", PASSWORD, "--save", "", "--appendonly", "no"]
        if self._bus_port:
            command += ["--cluster-enabled", "yes", "--cluster-config-file", self.nodes_file.name]
            command += ["--cluster-node-timeout", "2000", "--masterauth", PASSWORD]
            command += ["--cluster-port", str(self._bus_port)]
        return command

    def answers(self) -> bool:
        return b"PONG" in self.ask("PING")

    def ask(self, *words: str) -> bytes:
        """One command and the beginning of its answer; empty when there is nobody."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(_encoded("AUTH", PASSWORD))
                connection.recv(100)
                connection.sendall(_encoded(*words))
                return connection.recv(65536)
        except OSError:
            return b""


class RedisCluster:
    """Three masters without replicas, which share all slots."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [Redis(directory / f"node{number}", cluster=True) for number in range(3)]

    @property
    def url(self) -> str:
        return self.nodes[0].url + "?cluster=true"

    def start(self) -> None:
        with contextlib.ExitStack() as started:
            for node in self.nodes:
                # Of an earlier cluster, whose slots went with its keys.
                node.nodes_file.unlink(missing_ok=True)
                node.start()
                started.callback(node.stop)
            self._put_together()
            started.pop_all()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def _put_together(self) -> None:
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        create = ["redis-cli", "-a", PASSWORD, "--no-auth-warning", "--cluster", "create", *addresses]
        done = subprocess.run([*create, "--cluster-yes"], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise ServerError(f"the cluster was not made: {done.stdout[-500:]} {done.stderr[-500:]}")
        deadline = time.monotonic() + START_S
        while not all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes):
            if time.monotonic() > deadline:
                raise ServerError("the cluster does not come to agree")
            time.sleep(0.1)


def _encoded(*words: str) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"*%d\r\n%b" % (len(words), b"".join(parts))
