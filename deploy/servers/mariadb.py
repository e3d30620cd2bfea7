"""MariaDB, as the platform's database."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from deploy.servers.server import Server, ServerError

DATABASE = "yuanlian"
USER = "yuanlian"
PASSWORD = "mariadb-of-one-machine"  # on loopback, in a directory of its own

_BASE = Path("/usr")
_SBIN = "/usr/sbin:/usr/local/sbin"  # not in everybody's path


class MariaDb(Server):
    """As durable as the platform asks of its database: every commit is on the disk before it is answered.

    The user may do everything to databases whose names begin with ``yuanlian``, and nothing else.
    """

    name = "mariadb"

    @classmethod
    def installed(cls) -> bool:
        return _daemon() is not None and shutil.which("mariadb-install-db") is not None

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"mysql+asyncmy://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        self._scratch.mkdir(exist_ok=True)
        if self._made.exists():
            return
        # Also after a beginning that was cut short.
        shutil.rmtree(self._data, ignore_errors=True)
        install = ["mariadb-install-db", "--no-defaults", f"--basedir={_BASE}", f"--datadir={self._data}"]
        install += ["--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve"]
        install += [f"--tmpdir={self._scratch}", *_as_user()]
        failure = _failure_of(install)
        if failure:  # seen once, when servers still shared a directory for temporary tables
            print(f"mariadb-install-db failed and is tried once more: {failure}", file=sys.stderr, flush=True)
            shutil.rmtree(self._data, ignore_errors=True)
            again = _failure_of(install)
            if again:
                raise ServerError(f"no data directory. First: {failure}\nThen: {again}")
        self._grants.write_text(
            # Nobody gets in over the network without a password.
            "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');\n"
            "FLUSH PRIVILEGES;\n"
            f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n"
            f"CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON `{DATABASE}%`.* TO {USER}@'127.0.0.1';\n"
        )
        self._made.touch()

    def command(self) -> list[str]:
        command = [_daemon() or "mariadbd", "--no-defaults", f"--basedir={_BASE}", *_as_user()]
        command += [f"--datadir={self._data}", f"--socket={self._socket}", f"--pid-file={self._pid_file}"]
        # A server that starts empties this directory of temporary tables, whosever they are.
        command += [f"--tmpdir={self._scratch}"]
        command += ["--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve"]
        command += [f"--init-file={self._grants}"]
        # What is acknowledged is on the disk; replicas are not part of this.
        command += ["--innodb-flush-log-at-trx-commit=1", "--innodb-doublewrite=1", "--skip-log-bin"]
        command += ["--character-set-server=utf8mb4", "--default-time-zone=+00:00"]
        # One machine shares its memory with the whole platform.
        command += ["--innodb-buffer-pool-size=256M", "--innodb-log-file-size=128M", "--max-connections=300"]
        command += ["--performance-schema=OFF", "--skip-innodb-buffer-pool-dump-at-shutdown"]
        return command

    def answers(self) -> bool:
        """It greets; the port opens after the grants have been given."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                greeting = connection.recv(100)
        except OSError:
            return False
        return greeting[4:5] == b"\x0a"  # version of the protocol; an error packet has 0xff here

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _scratch(self) -> Path:
        return self.directory / "tmp"

    @property
    def _made(self) -> Path:
        return self.directory / "made"

    @property
    def _grants(self) -> Path:
        return self.directory / "grants.sql"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "mariadb.pid"

    @property
    def _socket(self) -> str:
        """Relative to the data directory, because the whole path of a socket has 107 bytes at most."""
        return "mariadb.sock"


def _daemon() -> str | None:
    return shutil.which("mariadbd") or shutil.which("mariadbd", path=_SBIN)


def _as_user() -> list[str]:
    """The server refuses to run as root unless told to; others cannot change their user."""
    return ["--user=root"] if os.geteuid() == 0 else []


def _failure_of(install: list[str]) -> str:
    """Empty when it has worked, otherwise its status and the end of what it said."""
    done = subprocess.run(install, capture_output=True, text=True, errors="replace", timeout=120)
    if not done.returncode:
        return ""
    return f"status {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-1000:]}"
