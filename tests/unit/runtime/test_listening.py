"""What each listener is made of, whoever stands behind it."""

from __future__ import annotations

import pytest
from tests.support.edge import edge, run

from yuanlian.gateway.internal import LIMITS
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.peers import nobody
from yuanlian.runtime import listening
from yuanlian.runtime.listening import AddressInUseError, Listening, everybody, listen
from yuanlian.runtime.settings import Settings

SETTINGS = Settings(
    host="127.0.0.2",
    port=1,
    admin_host="127.0.0.3",
    admin_port=2,
    services_host="127.0.0.4",
    services_port=3,
    services_admin_port=4,
    header_timeout_s=5,
)


def _shown(one: Listening) -> tuple[str, str, Limits | None, bool]:
    """Its URL, the setting of its port, its limits, and whether a stranger's connections are counted."""
    return one.url(one.port), one.setting, one.limits, not one.exempt("203.0.113.9")


def test_each_listens_where_its_own_settings_say() -> None:
    async def scenario() -> None:
        async with edge() as e:
            handler = e.gateway
            public = listening.public(SETTINGS, handler, nobody, None)
            limits = Limits(head_s=5)
            assert _shown(public) == ("http://127.0.0.2:1", "YUANLIAN_PORT", limits, True)
            admin = listening.admin(SETTINGS, handler)
            assert _shown(admin) == ("http://127.0.0.3:2", "YUANLIAN_ADMIN_PORT", None, True)
            services = listening.services(SETTINGS, handler)
            assert _shown(services) == ("http://127.0.0.4:3", "YUANLIAN_SERVICES_PORT", LIMITS, False)
            its_admin = listening.services_admin(SETTINGS, handler)
            assert _shown(its_admin) == ("http://127.0.0.3:4", "YUANLIAN_SERVICES_ADMIN_PORT", None, True)
            assert {one.handler for one in (public, admin, services, its_admin)} == {handler}
            assert listening.public(SETTINGS, handler, everybody, None).exempt is everybody

    run(scenario)


def test_a_port_that_is_taken_is_named_with_the_setting_that_chooses_another() -> None:
    async def scenario() -> None:
        async with edge() as e:
            taken = listening.admin(Settings(admin_host="127.0.0.1", admin_port=e.port), e.gateway)
            server = listening.server_for(taken, e.observer)
            with pytest.raises(AddressInUseError, match=f"127.0.0.1:{e.port} .*YUANLIAN_ADMIN_PORT"):
                await listen(server, taken)

    run(scenario)
