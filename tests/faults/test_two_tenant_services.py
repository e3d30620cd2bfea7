"""Two tenant services and no Redis: what one changes, a gateway that follows the other knows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.support.distributed import installed
from tests.support.platform import People, eventually
from websockets.exceptions import ConnectionClosed

from yuanlian.gateway.websocket_limits import CloseCode

TURNS = 3


def test_what_either_instance_suspends_is_refused_while_redis_is_away(tmp_path: Path) -> None:
    """Requests are spread over both instances, so of several changes each makes some. An open board hears
    of a suspension only from the feed: nobody asks on its behalf."""
    with (
        installed(tmp_path, replicas={"tenant": 2}) as made,
        closing(People(made.platform.public)) as people,
    ):
        operator, principal = people("admin"), people("yuanzhang2")
        made.redis.stop()

        def becomes(status: str) -> None:
            path = f"/api/tenant/tenants/{principal.tenant_id}"
            assert operator.call("PATCH", path, {"status": status}).status == 200

        for _ in range(TURNS):
            with principal.socket() as board:
                becomes("suspended")
                with pytest.raises(ConnectionClosed) as closed:
                    board.next("never sent", timeout=10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == CloseCode.FORBIDDEN
            assert principal.get("/api/auth/me").status == 403
            becomes("active")
            eventually(lambda: principal.get("/api/auth/me").status == 200)
