"""Who gets in on ``/ws``. CONTRACT §7."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.support.websocket import Edge, on_both_loops

from yuanlian.gateway.internal import EVERY_NETWORK
from yuanlian.kit.errors import ServiceUnavailableError


def test_a_valid_token_is_answered_with_who_it_is_and_where_history_stands() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            _, answer = await edge.auth("user_1", "a")
            assert answer == {
                "type": "auth_success",
                "userId": "user_1",
                "tenantId": "a",
                "cursor": await edge.hub.cursor("a"),
            }

    on_both_loops(scenario)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 10, "iat": int(time.time()) - 100},
        {"aud": "yuanlian:internal"},
        {"iss": "somebody else"},
    ],
    ids=["expired", "internal token", "other issuer"],
)
def test_a_token_that_does_not_count_is_refused_with_4401(claims: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client, answer = await edge.auth(**claims)
            assert (answer["type"], answer["code"]) == ("auth_error", 401)
            assert answer["message"] == "未登录或登录已过期"
            assert await client.closed_with() == 4401
            assert edge.service.asked == 0

    on_both_loops(scenario)


async def _guess(edge: Edge, token: str, **options: Any) -> tuple[int, int]:
    """The code of the answer to a bad token, and that of the closing."""
    client = await edge.connect(**options)
    await client.say({"type": "auth", "token": token, "tenantId": "a"})
    answer = await client.hear()
    assert answer["type"] == "auth_error"
    return answer["code"], await client.closed_with()


def test_an_address_that_has_sent_too_many_bad_tokens_is_refused_with_4429_and_a_good_token_passes() -> None:
    """Over ``/ws`` anybody could guess at any rate."""

    async def scenario() -> None:
        async with Edge(bad_tokens_per_minute=3) as edge:
            for _ in range(5):
                await edge.sign_in()  # draws nothing
            expired = edge.token(exp=int(time.time()) - 10, iat=int(time.time()) - 100)
            codes = [await _guess(edge, token) for token in ("x.y.z", "爱", expired, "x.y.z", expired)]
            assert codes == [(401, 4401)] * 3 + [(429, 4429)] * 2
            await edge.sign_in()

    on_both_loops(scenario)


@pytest.mark.parametrize(
    ("proxies", "chain"),
    [(("127.0.0.0/8",), ""), (EVERY_NETWORK, ", 198.51.100.1")],
    ids=["a listed proxy", "a gateway of its own process"],
)
def test_behind_a_listed_proxy_bad_tokens_count_for_the_client(proxies: tuple[str, ...], chain: str) -> None:
    async def scenario() -> None:
        async with Edge(bad_tokens_per_minute=1, trusted_proxies=proxies) as edge:
            first, second = (
                {"additional_headers": {"X-Forwarded-For": f"192.0.2.{n}{chain}"}} for n in (1, 2)
            )
            assert await _guess(edge, "x.y.z", **first) == (401, 4401)
            assert await _guess(edge, "x.y.z", **first) == (429, 4429)
            assert await _guess(edge, "x.y.z", **second) == (401, 4401)

    on_both_loops(scenario)


def test_who_is_no_listed_proxy_counts_itself_whatever_it_says() -> None:
    async def scenario() -> None:
        async with Edge(bad_tokens_per_minute=1) as edge:
            first, second = ({"additional_headers": {"X-Forwarded-For": f"192.0.2.{n}"}} for n in (1, 2))
            assert await _guess(edge, "x.y.z", **first) == (401, 4401)
            assert await _guess(edge, "x.y.z", **second) == (429, 4429)

    on_both_loops(scenario)


def test_errors_speak_the_language_of_the_client() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.connect(additional_headers={"Accept-Language": "en"})
            await client.say({"type": "auth", "token": "x.y.z", "tenantId": "a"})
            assert (await client.hear())["message"] == "Not signed in, or the sign-in has expired"

    on_both_loops(scenario)


def test_a_token_of_another_tenant_than_the_frame_names_is_refused_with_4403() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.connect()
            await client.say({"type": "auth", "token": edge.token(tenant="a"), "tenantId": "b"})
            answer = await client.hear()
            assert (answer["type"], answer["code"]) == ("auth_error", 403)
            assert await client.closed_with() == 4403

    on_both_loops(scenario)


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        '"text"',
        "[" * 5000,
        b"binary",
        {"type": "auth"},
        {"type": "auth", "token": "x"},
        {"type": "auth", "token": 7, "tenantId": "a"},
        {"type": "auth", "token": "x", "tenantId": "a", "resume": "9" * 100},
        {"type": "subscribe", "channel": "user"},
        {"type": "ping", "timestamp": 1},
        {"type": "dance"},
        {},
    ],
    ids=lambda frame: str(frame)[:40],
)
def test_whatever_comes_first_and_is_not_a_proper_auth_frame_ends_the_connection(frame: Any) -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.connect()
            await client.say(frame)
            assert (await client.hear())["type"] == "auth_error"
            assert await client.closed_with() == 4401

    on_both_loops(scenario)


def test_silence_after_connecting_ends_with_4401() -> None:
    async def scenario() -> None:
        async with Edge(auth_timeout_s=0.05) as edge:
            client = await edge.connect()
            assert (await client.hear())["type"] == "auth_error"
            assert await client.closed_with() == 4401

    on_both_loops(scenario)


def test_an_authenticated_connection_outlives_the_time_for_authentication() -> None:
    async def scenario() -> None:
        async with Edge(auth_timeout_s=0.05) as edge:
            client = await edge.sign_in()
            await asyncio.sleep(0.15)
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_a_revoked_sign_in_is_refused() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            await edge.revocations.revoke_session("session_x", int(time.time()) + 3600)
            client, answer = await edge.auth(sid="session_x")
            assert answer["type"] == "auth_error"
            assert await client.closed_with() == 4401

    on_both_loops(scenario)


def test_a_tenant_that_is_suspended_or_unknown_is_refused_with_4403() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.tenants.set_status("a", "suspended")
            for tenant in ("a", "nowhere"):
                client, answer = await edge.auth(tenant=tenant)
                assert (answer["type"], answer["code"]) == ("auth_error", 403)
                assert await client.closed_with() == 4403

    on_both_loops(scenario)


def test_a_tenant_service_that_does_not_answer_does_not_sign_anybody_out() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.failure = ServiceUnavailableError()
            client, answer = await edge.auth()
            assert (answer["type"], answer["code"]) == ("auth_error", 503)
            assert await client.closed_with() == 1013

    on_both_loops(scenario)


def test_a_tenant_service_that_hangs_ends_the_attempt() -> None:
    async def scenario() -> None:
        async with Edge(auth_timeout_s=0.05) as edge:
            edge.service.open.clear()
            client, answer = await edge.auth()
            assert (answer["type"], answer["code"]) == ("auth_error", 503)
            assert await client.closed_with() == 1013

    on_both_loops(scenario)


def test_an_unforeseen_failure_closes_with_1011_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in()
            edge.service.failure = RuntimeError("unforeseen")
            await client.say({"type": "subscribe", "channel": "class:1"})
            assert await client.closed_with() == 1011

    on_both_loops(scenario)
    assert "websocket message failed" in caplog.text


def test_authenticating_twice_is_an_error_and_changes_nothing() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in("user_1")
            await client.say({"type": "auth", "token": edge.token("user_2"), "tenantId": "a"})
            assert (await client.hear())["type"] == "error"
            await edge.announce("for two", "user:user_2")
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_a_user_has_a_limited_number_of_connections_per_tenant() -> None:
    async def scenario() -> None:
        async with Edge(connections_per_user=2) as edge:
            first = await edge.sign_in("user_1")
            await edge.sign_in("user_1")
            await edge.sign_in("user_1", "b")
            await edge.sign_in("user_2")
            client, answer = await edge.auth("user_1")
            assert (answer["type"], answer["code"]) == ("auth_error", 429)
            assert await client.closed_with() == 4429
            await first.socket.close()
            await edge.sign_in("user_1")

    on_both_loops(scenario)


def test_frames_sent_right_behind_the_auth_frame_are_answered_after_it() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.may_follow["user_1"] = {"class:1"}
            edge.service.open.clear()
            client = await edge.connect()
            await client.say({"type": "auth", "token": edge.token(), "tenantId": "a"})
            await client.say({"type": "subscribe", "channel": "class:1"})
            await client.say({"type": "ping", "timestamp": 5})
            await asyncio.sleep(0.05)
            edge.service.open.set()
            heard = [(await client.hear())["type"] for _ in range(3)]
            assert heard == ["auth_success", "subscribed", "pong"]
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)
