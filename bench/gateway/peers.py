"""What a team would put there instead: nginx, Envoy, Traefik, Express + axios, fastify."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.gateway.contender import Contender, Stage
from bench.gateway.environment import PEERS, Environment
from bench.gateway.processes import await_answer, free_port, running
from bench.gateway.scenario import GET, SECRET, SMALL, key_set, large_body, request_bytes
from yuanlian.kit.identity.tokens import AUDIENCE, ISSUER


def rendered(name: str, target: Path, **values: object) -> Path:
    """The configuration ``bench/peers/NAME`` with its ``@NAMES@`` filled in, in ``target``."""
    text = (PEERS / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", str(value))
    path = target / name
    path.write_text(text)
    return path


@contextlib.contextmanager
def upstream(environment: Environment, stage_run: Path, core: int | None) -> Iterator[int]:
    """The nginx that every gateway forwards to; its port."""
    port = free_port()
    (stage_run / "large.json").write_bytes(large_body())
    config = rendered("nginx-upstream.conf", stage_run, run=stage_run, port=port, small=SMALL)
    command = [str(environment.programs["nginx"]), "-p", str(stage_run), "-c", str(config)]
    log = stage_run / "upstream.log"
    with running(command, core, log) as process:
        await_answer(process, port, request_bytes(GET, port, "none"), log)
        yield port


class Nginx(Contender):
    key = "nginx"
    name = "nginx"
    features = "only forwards"

    def __init__(self, environment: Environment) -> None:
        self._program = environment.programs["nginx"]

    def command(self, stage: Stage, port: int) -> tuple[list[str], Mapping[str, str]]:
        config = rendered("nginx-gateway.conf", stage.run, run=stage.run, port=port, upstream=stage.upstream)
        return [str(self._program), "-p", str(stage.run), "-c", str(config)], {}


class BareEnvoy(Contender):
    key = "envoy-bare"
    name = "Envoy"
    features = "only forwards"
    config = "envoy-bare.yaml"

    def __init__(self, environment: Environment) -> None:
        self._program = environment.programs["envoy"]

    def command(self, stage: Stage, port: int) -> tuple[list[str], Mapping[str, str]]:
        config = rendered(
            self.config,
            stage.run,
            run=stage.run,
            port=port,
            upstream=stage.upstream,
            jwks=key_set(),
            issuer=ISSUER,
            audience=AUDIENCE,
        )
        quiet = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
        return [str(self._program), "-c", str(config), *quiet], {}


class Envoy(BareEnvoy):
    key = "envoy"
    features = "token, rate limit, JSON log, metrics"
    config = "envoy.yaml"
    checks_token = True
    writes_log = True


class Traefik(Contender):
    key = "traefik"
    name = "Traefik"
    features = "rate limit, JSON log, metrics"
    writes_log = True

    def __init__(self, environment: Environment) -> None:
        self._program = environment.programs["traefik"]

    def command(self, stage: Stage, port: int) -> tuple[list[str], Mapping[str, str]]:
        rendered("traefik-routes.yaml", stage.run, upstream=stage.upstream)
        config = rendered("traefik.yaml", stage.run, run=stage.run, port=port)
        return [str(self._program), f"--configFile={config}"], {"GOMAXPROCS": "1"}


class _Node(Contender):
    script: str

    def __init__(self, environment: Environment) -> None:
        self._program = environment.programs["node"]
        self._modules = environment.modules

    def command(self, stage: Stage, port: int) -> tuple[list[str], Mapping[str, str]]:
        return [str(self._program), str((PEERS / self.script).resolve())], {
            "NODE_PATH": str(self._modules),
            "NODE_ENV": "production",
            "PORT": str(port),
            "UPSTREAM": str(stage.upstream),
            "JWT_SECRET": SECRET,
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
        }


class Express(_Node):
    key = "express"
    name = "Express + axios"
    features = "token, rate limit"
    checks_token = True
    script = "express-gateway.js"


class Fastify(_Node):
    key = "fastify"
    name = "fastify http-proxy"
    features = "only forwards"
    script = "fastify-gateway.js"


def all_peers(environment: Environment) -> list[Contender]:
    """Those that this machine can run."""
    peers: list[Contender] = [
        Nginx(environment),
        BareEnvoy(environment),
        Envoy(environment),
        Traefik(environment),
    ]
    if "node" in environment.programs:
        peers += [Fastify(environment), Express(environment)]
    return peers
