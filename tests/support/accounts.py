"""Users of MariaDB and RabbitMQ who may do less than the platform needs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from deploy.servers.mariadb import MariaDb
from deploy.servers.rabbitmq import RabbitMq

PASSWORD = "of-somebody-who-may-do-little"


def as_root(server: MariaDb, *statements: str) -> str:
    """What its superuser is told, who comes by the socket."""
    socket = server.directory / "data" / "mariadb.sock"
    command = ["mariadb", "--no-defaults", f"--socket={socket}", "--skip-column-names", "-e"]
    done = subprocess.run(
        [*command, "; ".join(statements)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def database_user(server: MariaDb, name: str, database: str, *grants: str) -> str:
    """The URL of a user made anew. ``grants``: what is between GRANT and TO."""
    user = f"{name}@'127.0.0.1'"
    as_root(
        server,
        f"DROP USER IF EXISTS {user}",
        f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}'",
        *(f"GRANT {grant} TO {user}" for grant in grants),
    )
    return f"mysql+asyncmy://{name}:{PASSWORD}@127.0.0.1:{server.port}/{database}"


def broker_users(server: RabbitMq, vhost: str, users: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Likewise, by name. ``users``: what each may configure, write and read. The virtual host is made if
    need be. All in one question: every ``rabbitmqctl`` starts an Erlang of its own."""
    steps = [f"rabbit_vhost:exists({_binary(vhost)}) orelse rabbit_vhost:add({_binary(vhost)}, <<>>)"]
    for name, permissions in users.items():
        user = _binary(name)
        steps += [
            f"catch rabbit_auth_backend_internal:delete_user({user}, <<>>)",
            f"rabbit_auth_backend_internal:add_user({user}, {_binary(PASSWORD)}, <<>>)",
            f"rabbit_auth_backend_internal:set_permissions({user}, {_binary(vhost)}, "
            f"{', '.join(map(_binary, permissions))}, <<>>)",
        ]
    server.control("eval", ", ".join([*steps, "ok."]))
    return {name: f"amqp://{name}:{PASSWORD}@127.0.0.1:{server.port}/{vhost}" for name in users}


def broker_user(server: RabbitMq, name: str, vhost: str, *permissions: str) -> str:
    return broker_users(server, vhost, {name: permissions})[name]


def in_broker(server: RabbitMq, vhost: str) -> str:
    """All that is in a virtual host, to be compared."""
    of = _binary(vhost)
    queue = "[rabbit_misc:rs(amqqueue:get_name(Q)), amqqueue:get_arguments(Q)]"
    queues = f"[{queue} || Q <- rabbit_amqqueue:list({of})]"
    return server.control(
        "eval",
        f"lists:map(fun lists:sort/1, [{queues}, rabbit_binding:list({of}), rabbit_exchange:list({of})]).",
    )


def _binary(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}">>'
