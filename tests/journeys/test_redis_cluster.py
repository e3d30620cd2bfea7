"""A day on the distributed platform whose Redis is a cluster of three masters: what is cached, counted,
registered, announced and revoked lies on different nodes, and nobody notices.

Distributed by nature: the embedded platform has no Redis.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.support import servers
from tests.support.boards import a_board_catches_up
from tests.support.distributed import guest
from tests.support.platform import PASSWORD, People, eventually

from deploy.distributed import SERVICES, Distributed
from deploy.servers.redis import Redis
from yuanlian.gateway.routes import DEFAULT_ROUTES

LIMITED = """
  - path: /few
    service: auth-service
    methods: [GET]
    auth: false
    rateLimit: { windowMs: 3600000, max: 3 }
"""


@pytest.fixture(scope="module")
def nodes() -> list[Redis]:
    return servers.redis_cluster().nodes


@pytest.fixture(scope="module")
def platform(nodes: list[Redis], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distributed]:
    folder = tmp_path_factory.mktemp("cluster")
    routes = folder / "routes.yaml"
    routes.write_text(DEFAULT_ROUTES.read_text("utf-8") + LIMITED, "utf-8")
    with guest(folder / "platform", cluster=True, settings={"YUANLIAN_ROUTES": str(routes)}) as platform:
        yield platform


@pytest.fixture(scope="module")
def people(platform: Distributed) -> Iterator[People]:
    people = People(platform.public)
    yield people
    people.close()


def test_a_check_in_reaches_the_guardian_and_the_open_board(people: People) -> None:
    teacher, guardian = people("laoshi"), people("jiazhang", "tenant_sunshine")
    before = len(guardian.inbox())
    with teacher.socket() as board, guardian.socket() as phone:
        assert teacher.check_in("student_sun_001").status == 201
        assert board.next("attendance_update")["data"]["studentId"] == "student_sun_001"
        assert phone.next("notification")["tenantId"] == "tenant_sunshine"
    eventually(lambda: len(guardian.inbox()) == before + 1)


def test_a_board_that_reconnects_is_told_what_it_missed(people: People) -> None:
    a_board_catches_up(people("laoshi"))


def test_a_rate_limit_is_counted_and_answered(platform: Distributed) -> None:
    answers = [httpx.get(platform.public + "/few", trust_env=False, timeout=20) for _ in range(5)]
    assert [answer.status_code for answer in answers[3:]] == [429, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers[:3]] == ["2", "1", "0"]
    assert int(answers[3].headers["retry-after"]) > 0


def test_every_service_is_registered(platform: Distributed) -> None:
    services = httpx.get(platform.admin + "/services", trust_env=False, timeout=20).json()["services"]
    assert {f"{name}-service" for name in SERVICES} <= {name for name, found in services.items() if found}


def test_a_token_of_an_ended_session_is_refused(people: People) -> None:
    person = people.sign_in("yuanzhang2", PASSWORD)
    assert person.get("/api/auth/me").status == 200
    assert person.post("/api/auth/logout").status == 200
    eventually(lambda: person.get("/api/auth/me").status == 401)


def test_what_is_kept_lies_on_more_than_one_node(nodes: list[Redis], people: People) -> None:
    people("yuanzhang").get("/api/tenant/students")
    kept = [node.ask("DBSIZE") for node in nodes]
    assert sum(size not in (b":0\r\n", b"") for size in kept) >= 2, kept


def test_no_part_had_anything_to_complain_of_its_redis(platform: Distributed) -> None:
    for part in platform.parts.values():
        log = part.log.read_text("utf-8", "replace")
        assert "Redis refuses a command" not in log, log[-2000:]
        assert "registry is away" not in log, log[-2000:]
