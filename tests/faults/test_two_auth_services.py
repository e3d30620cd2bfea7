"""Two auth services and no Redis: what one revokes, a gateway that follows the other refuses."""

from __future__ import annotations

from pathlib import Path

import httpx
from tests.support.distributed import installed
from tests.support.platform import PASSWORD, eventually

SIGN_INS = 4


def _sign_in(http: httpx.Client) -> str | None:
    answer = http.post("/api/auth/login", json={"data": {"username": "laoshi", "password": PASSWORD}})
    return answer.json()["data"]["accessToken"] if answer.status_code == 200 else None


def test_what_either_instance_revokes_is_refused_while_redis_is_away(tmp_path: Path) -> None:
    """Requests are spread over both instances, so of several goodbyes each has some."""
    with (
        installed(tmp_path, replicas={"auth": 2}) as made,
        httpx.Client(base_url=made.platform.public, timeout=20, trust_env=False) as http,
    ):
        tokens = [eventually(lambda: _sign_in(http)) for _ in range(SIGN_INS)]
        made.redis.stop()
        for token in tokens:
            mine = {"authorization": f"Bearer {token}"}
            assert http.get("/api/auth/me", headers=mine).status_code == 200
            assert http.post("/api/auth/logout", headers=mine, json={"data": {}}).status_code < 300
            eventually(lambda mine=mine: http.get("/api/auth/me", headers=mine).status_code == 401)
