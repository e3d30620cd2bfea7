"""The specification's own stack: ``bench/peers/express/`` behind ``bench/peers/express-gateway.js``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, make_url

from bench.checkin.contender import Count, Served
from bench.checkin.dataset import SECRET, Dataset
from bench.checkin.spread import Spread
from bench.gateway.environment import PEERS, Environment
from bench.gateway.processes import await_answer, running
from deploy.servers.server import free_port
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.kit.identity.tokens import AUDIENCE, ISSUER
from yuanlian.kit.tenancy.scope import across_tenants

SERVICES = PEERS / "express"
_ANSWERS = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class ExpressStack(Spread):
    name = "Express, axios, mysql2, amqplib"
    with_redis = False

    def __init__(self, directory: Path, environment: Environment) -> None:
        super().__init__(directory)
        self._node = environment.programs["node"]
        self._modules = environment.modules

    def fill(self, database: MysqlDatabase, dataset: Dataset) -> None:
        database.migrate(lambda connection: _insert(connection, dataset))

    @contextmanager
    def serving(self) -> Iterator[Served]:
        url = make_url(self.mariadb.url)
        port, upstream = free_port(), free_port()
        environment = {
            "NODE_PATH": str(self._modules),
            "NODE_ENV": "production",
            "MYSQL_PORT": str(url.port),
            "MYSQL_USER": url.username or "",
            "MYSQL_PASSWORD": url.password or "",
            "MYSQL_DATABASE": url.database or "",
            "AMQP_URL": self.rabbitmq.url,
            "JWT_SECRET": SECRET,
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "UPSTREAM": str(upstream),
        }
        scripts = {
            "notification": (SERVICES / "notification.js", 0, b""),
            "analytics": (SERVICES / "analytics.js", 0, b""),
            "tenant": (SERVICES / "tenant.js", upstream, b" 404 "),
            "gateway": (PEERS / "express-gateway.js", port, b" 401 "),
        }
        own: dict[str, int] = {}
        with ExitStack() as stack:
            for name, (script, listens_at, answer) in scripts.items():
                log = self.directory / f"{name}.log"
                process = stack.enter_context(
                    running(
                        [str(self._node), str(script.resolve())],
                        None,
                        log,
                        environment | {"PORT": str(listens_at)},
                    )
                )
                if listens_at:
                    await_answer(process, listens_at, _ANSWERS, log, answer)
                own[name] = process.pid
            yield Served(port, own | self.server_processes)

    def work_left(self, count: Count) -> bool:  # noqa: ARG002 - its effects tell
        return False

    def effects(self, count: Count) -> dict[str, int]:
        return {
            "attendance events": count("count(*) FROM attendance_events"),
            "attendance days": count("count(*) FROM attendance_days"),
            "notifications": count("count(*) FROM notifications"),
            "children in analytics": count("count(*) FROM analytics_student_days"),
        }

    def log_tail(self) -> str:
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(f"{log.stem}: {log.read_text(errors='replace')[-800:]}" for log in logs)


def _insert(connection: Connection, dataset: Dataset) -> None:
    with across_tenants("benchmark data"):
        for statement in (SERVICES / "schema.sql").read_text().split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        for tenant_id in dataset.tenant_ids():
            for table, rows in _rows(dataset, tenant_id).items():
                places = ",".join(["%s"] * len(rows[0]))
                connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({places})", rows)


def _rows(dataset: Dataset, tenant_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """Values in the order of the columns of ``schema.sql``."""
    children = list(dataset.children_of(tenant_id))
    guardians = [(child, guardian) for child in children for guardian in child.guardian_ids]
    return {
        "tenants": [(tenant_id, tenant_id, "active")],
        "classes": [(id_, tenant_id, id_[-2:] + "班") for id_ in dataset.class_ids(tenant_id)],
        "staff_classes": [
            (user, class_id, tenant_id)
            for teacher, user in enumerate(dataset.teacher_ids(tenant_id))
            for class_id in dataset.classes_of(tenant_id, teacher)
        ],
        "students": [(c.id, tenant_id, c.class_id, c.name, "active") for c in children],
        "guardians": [(id_, tenant_id, f"user_{id_}", "家长") for _, id_ in guardians],
        "student_guardians": [(c.id, id_, tenant_id, "母亲", True) for c, id_ in guardians],
    }
