"""The distributed platform on one machine, every part a process of its own: ``make up-distributed``.

    python -m deploy.distributed [--port 8080] [--directory var/distributed] [--no-servers] [--no-demo]

MariaDB, RabbitMQ and Redis from Debian's packages are started with it (``make servers`` does only that),
unless ``YUANLIAN_DATABASE_URL`` and the others say where they are. A part that ends is started again, as
the supervisor of a real installation would.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from typing import Any

from deploy import logs
from deploy.servers.mariadb import MariaDb
from deploy.servers.rabbitmq import RabbitMq
from deploy.servers.redis import Redis
from deploy.servers.server import Server, ServerError, listens, quiet_ports

SERVICES = ("auth", "tenant", "notification", "analytics")
START_S = 120.0
STOP_S = 15.0
PAUSE_S = 1.0
NAMED = {"YUANLIAN_DATABASE_URL", "YUANLIAN_BUS_URL", "YUANLIAN_CACHE_URL", "YUANLIAN_REGISTRY_URL"}
STOPS = (signal.SIGINT, signal.SIGTERM)


class Part:
    """One process of the platform. It appends its output to ``log`` by itself, whoever lives or ends."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self.environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "yuanlian.runtime.cli", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


class Distributed:
    """Gateway and services against servers that answer already. ``urls``: the settings that name them."""

    def __init__(
        self,
        directory: Path,
        urls: Mapping[str, str],
        *,
        port: int = 0,
        demo: bool = True,
        replicas: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port = port or quiet_ports(1)[0]
        self.admin_port = quiet_ports(1)[0]
        self.ports = {name: quiet_ports((replicas or {}).get(name, 1)) for name in SERVICES}
        self._stopping = False
        environment = {
            "YUANLIAN_JWT_SECRET": self._secret(),
            "YUANLIAN_DATA_DIR": str(directory),
            **urls,
            **(settings or {}),
        }
        self.parts: dict[str, Part] = {}
        for name, ports in self.ports.items():
            for number, service_port in enumerate(ports):
                command = ["run", name, "--port", str(service_port), "--admin-port", "0"]
                # One loads the demonstration; the others would wait for the same rows.
                if name == "tenant" and number == 0 and demo:
                    command.append("--demo")
                part = name if number == 0 else f"{name}-{number + 1}"
                self.parts[part] = Part(part, command, environment, directory / f"{part}.log")
        command = ["run", "gateway", "--port", str(self.port), "--admin-port", str(self.admin_port)]
        self.parts["gateway"] = Part("gateway", command, environment, directory / "gateway.log")

    @property
    def public(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def start(self) -> None:
        """Returns when everybody listens and the gateway has found everybody.

        Raises:
            ServerError: a part ended, with the end of its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        for part in self.parts.values():
            logs.set_aside(part.log)
        # The first makes the schema, and the demonstration, which the others use.
        self.parts["tenant"].start()
        self._await("tenant", self.ports["tenant"][0])
        for name, part in self.parts.items():
            if name != "tenant":
                part.start()
        for name, ports in self.ports.items():
            for number, port in enumerate(ports):
                self._await(name if number == 0 else f"{name}-{number + 1}", port)
        self._await("gateway", self.port)
        self.await_found()

    def await_found(self) -> None:
        """Whom the gateway lists, it asks: until then it answers 503 for a service that listens already. And
        it takes no token before it knows which have ended: then it is healthy.

        Raises:
            ServerError: it does not get there.
        """
        deadline = time.monotonic() + START_S
        while lacking := self._lacking():
            ended = [part for part in self.parts.values() if part.ended]
            if ended or time.monotonic() > deadline:
                tails = "\n".join(part.log_tail() for part in ended or [self.parts["gateway"]])
                raise ServerError(f"the gateway {lacking}:\n{tails}")
            time.sleep(0.1)

    def stop(self) -> None:
        """The gateway first: what it has taken, it finishes."""
        self._stopping = True
        self.parts["gateway"].terminate()
        self.parts["gateway"].wait()
        for part in self.parts.values():
            part.terminate()
        for part in self.parts.values():
            part.wait()

    def restart_ended(self) -> list[str]:
        """Which parts had ended by themselves; a supervisor calls it now and then."""
        if self._stopping:
            return []
        ended = [part for part in self.parts.values() if part.ended]
        for part in ended:
            part.start()
        return [part.name for part in ended]

    def cut_logs(self, limit: int = logs.LIMIT) -> list[str]:
        """Keeps the logs within ``limit`` bytes each; what went wrong. A supervisor calls it now and then."""
        wrong = []
        for part in self.parts.values():
            try:
                logs.cut(part.log, limit)
            except OSError as error:
                wrong.append(f"{part.log} could not be cut: {error}")
        return wrong

    def _await(self, name: str, port: int) -> None:
        part = self.parts[name]
        deadline = time.monotonic() + START_S
        while not listens(port):
            if part.ended or time.monotonic() > deadline:
                raise ServerError(f"{name} did not start:\n{part.log_tail()}")
            time.sleep(0.02)

    def _lacking(self) -> str:
        """Which services the gateway lists not with every port that was started; then whether it is healthy.
        Instances of a platform that was killed count for nothing: they stay in the registry until their life
        ends."""
        try:
            listed = json.loads(self._shown("/services")[1])["services"]
            found = {name: _ports_up(listed, f"{name}-service") for name in self.ports}
            missing = [name for name, ports in self.ports.items() if not found[name].issuperset(ports)]
            if not missing:
                return "" if self._shown("/health")[0] == 200 else "is not healthy, see its /health"
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            missing = list(self.ports)  # no answer, or none that says who is there: it is asked again
        return f"does not find {', '.join(missing)}"

    def _shown(self, page: str) -> tuple[int, bytes]:
        """Of the gateway's admin listener."""
        with closing(HTTPConnection("127.0.0.1", self.admin_port, timeout=START_S)) as gateway:
            gateway.request("GET", page)
            answer = gateway.getresponse()
            return answer.status, answer.read()

    def _secret(self) -> str:
        path = self.directory / "jwt.secret"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(48))
        return path.read_text().strip()


def _ports_up(listed: Any, service: str) -> set[int]:
    """Raises:
    KeyError, TypeError: this is not how a gateway lists instances.
    """
    if service not in listed:
        return set()
    return {instance["port"] for instance in listed[service] if instance["status"] == "up"}


@contextmanager
def own_servers(directory: Path) -> Iterator[dict[str, str]]:
    """MariaDB, RabbitMQ and Redis in ``directory``, and the settings that name them.

    Raises:
        ServerError: one is not installed, or does not start.
    """
    database = MariaDb(directory / "mariadb")
    broker = RabbitMq(directory / "rabbitmq")
    redis = Redis(directory / "redis")
    servers: list[Server] = [database, broker, redis]
    try:
        for server in servers:
            if not server.installed():
                raise ServerError(f"{server.name} is not installed (Debian: see .ci/run)")
            server.start()
        yield settings_for(database, broker, redis)
    finally:
        for server in reversed(servers):
            server.stop()


def settings_for(database: Server, broker: Server, redis: Server) -> dict[str, str]:
    return {
        "YUANLIAN_DATABASE_URL": database.url,
        "YUANLIAN_BUS_URL": broker.url,
        "YUANLIAN_CACHE_URL": redis.url,
        "YUANLIAN_REGISTRY_URL": redis.url,
    }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=8080)
    arguments.add_argument("--directory", type=Path, default=Path("var/distributed"))
    arguments.add_argument("--no-servers", action="store_true", help="those that YUANLIAN_*_URL name")
    arguments.add_argument("--servers-only", action="store_true")
    arguments.add_argument("--no-demo", action="store_true")
    options = arguments.parse_args()
    for number in STOPS:
        signal.signal(number, _stop)
    try:
        if options.no_servers or NAMED.intersection(os.environ):
            _serve(options, {})
        else:
            with own_servers(options.directory / "servers") as urls:
                for name, url in urls.items():
                    print(f"{name}={url}", flush=True)
                _serve(options, urls) if not options.servers_only else _wait()
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _serve(options: argparse.Namespace, urls: Mapping[str, str]) -> None:
    platform = Distributed(options.directory, urls, port=options.port, demo=not options.no_demo)
    try:
        platform.start()
        print(f"\n园联 Yuanlian  {platform.public}   接口文档 {platform.public}/docs", flush=True)
        print(f"管理端 admin   {platform.admin}/health  /metrics  /routes  /services", flush=True)
        print(f"日志 logs      {options.directory}/*.log\nCtrl-C 停止 stops it.", flush=True)
        while True:
            time.sleep(PAUSE_S)
            for name in platform.restart_ended():
                print(f"{name} ended and was started again", flush=True)
            for wrong in platform.cut_logs():
                print(wrong, file=sys.stderr, flush=True)
    finally:
        platform.stop()


def _wait() -> None:
    while True:
        time.sleep(PAUSE_S)


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)  # asked once is enough: a second must not cut the ending
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
