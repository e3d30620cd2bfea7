from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.auth import PASSWORD, AuthRig, with_rig

from yuanlian.services.auth.throttle import PER_ACCOUNT, PER_ADDRESS


async def fail(rig: AuthRig, times: int, username: str = "laoshi", address: str = "192.0.2.1") -> list[int]:
    return [(await rig.login(username, "wrong", address=address)).status for _ in range(times)]


def test_five_wrong_passwords_lock_the_account_for_that_address(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        assert await fail(rig, 5) == [401] * 5
        locked = await rig.login("laoshi")
        assert locked.status == 429
        assert locked.headers["retry-after"] == "900"
        assert (await rig.login("laoshi", address="198.51.100.7")).status == 200
        assert (await rig.login("baojian")).status == 200

    with_rig(tmp_path, scenario)


def test_the_lock_ends_by_itself_and_survives_a_restart(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        await fail(rig, 5)
        rig.restart()
        rig.clock.advance(PER_ADDRESS.lock_ms - 1)
        assert (await rig.login("laoshi")).status == 429
        rig.clock.advance(1)
        assert (await rig.login("laoshi")).status == 200

    with_rig(tmp_path, scenario)


def test_a_right_password_forgets_the_wrong_ones(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        for _ in range(3):
            await fail(rig, 4)
            assert (await rig.login("laoshi")).status == 200

    with_rig(tmp_path, scenario)


def test_guessing_from_many_addresses_locks_the_account(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        for n in range(PER_ACCOUNT.failures):
            assert await fail(rig, 1, address=f"198.51.100.{n}") == [401]
        assert (await rig.login("laoshi", address="203.0.113.1")).status == 429
        assert (await rig.login("baojian")).status == 200

    with_rig(tmp_path, scenario)


def test_unknown_usernames_lock_just_the_same(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        assert [*await fail(rig, 5, "nobody"), *await fail(rig, 1, "nobody")] == [401] * 5 + [429]

    with_rig(tmp_path, scenario)


def test_guesses_sent_at_once_do_not_overtake_the_count(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        guesses = [rig.login("laoshi", f"guess {n}") for n in range(20)]
        statuses = [answer.status for answer in await asyncio.gather(*guesses)]
        assert sorted(statuses) == [401] * 5 + [429] * 15

    with_rig(tmp_path, scenario)


def test_right_passwords_sent_at_once_all_get_in(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        answers = await asyncio.gather(*(rig.login("laoshi") for _ in range(8)))
        assert {answer.status for answer in answers} == {200}

    with_rig(tmp_path, scenario)


def test_the_current_password_cannot_be_guessed_with_a_stolen_token_either(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("laoshi")
        guess = {"current": "wrong", "next": "another one"}
        statuses = [(await rig.call("POST", "/password", guess, token=token)).status for _ in range(6)]
        assert statuses == [400] * 5 + [429]
        right = {"current": PASSWORD, "next": "another one"}
        assert (await rig.call("POST", "/password", right, token=token)).status == 429

    with_rig(tmp_path, scenario)


def test_forwarded_addresses_that_the_client_wrote_do_not_dodge_the_lock(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        for n in range(5):
            lie = {"x-forwarded-for": f"203.0.113.{n}, 192.0.2.1"}
            assert (await rig.login("laoshi", "wrong", headers=lie)).status == 401
        lie = {"x-forwarded-for": "203.0.113.99, 192.0.2.1"}
        assert (await rig.login("laoshi", headers=lie)).status == 429

    with_rig(tmp_path, scenario)


def test_a_password_set_by_an_administrator_ends_every_lock_of_the_account(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        for n in range(PER_ACCOUNT.failures):
            await fail(rig, 1, address=f"198.51.100.{n // 5}")
        await fail(rig, 5, username="baojian")
        assert (await rig.login("laoshi", address="198.51.100.0")).status == 429
        change = {"password": "another password"}
        assert (await rig.call("PATCH", "/users/user_laoshi", change, token=token)).status == 200
        for address in ("198.51.100.0", "203.0.113.1"):
            assert (await rig.login("laoshi", "another password", address=address)).status == 200
        assert (await rig.login("baojian")).status == 429

    with_rig(tmp_path, scenario)
