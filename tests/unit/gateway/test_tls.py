"""TLS on the public listener: the right certificate for each name, and new ones while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs
from tests.support.certificates import DAY, Authority
from tests.support.edge import Edge, Recorder, edge, parse
from tests.support.websocket import on_both_loops

from yuanlian.gateway.certificates import CertificateError
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.server import GatewayServer
from yuanlian.gateway.tls import Tls
from yuanlian.kit.clock import SystemClock

REFUSED = (ssl.SSLError, ConnectionResetError)
"""uvloop closes without the alert that would say why."""
GET = b"GET /open/x HTTP/1.1\r\nHost: sun.test\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@asynccontextmanager
async def _serving(
    folder: Path,
    service: Recorder | None = None,
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    at: int = 0,
) -> AsyncIterator[tuple[Tls, Edge, int]]:
    """The gateway, with its certificates, on a TLS port beside the plain one."""
    tls = Tls(folder, SystemClock())
    tls.read()
    async with edge(service) as plain:
        server = GatewayServer(plain.gateway, SilentObserver(), limits, tls=tls.context)
        port = await server.start(host, at)
        try:
            yield tls, plain, port
        finally:
            await server.stop(drain_s=1)


async def _connect(
    port: int, context: ssl.SSLContext, name: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(
        asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name), 10
    )


async def _serial(port: int, context: ssl.SSLContext, name: str | None) -> str:
    """Of the certificate that one who asks for ``name`` is shown."""
    _, writer = await _connect(port, context, name)
    certificate: dict[str, Any] = writer.get_extra_info("peercert")
    writer.close()
    return str(certificate["serialNumber"])


def _careless(authority: Authority) -> ssl.SSLContext:
    """Trusts the authority, whatever the name."""
    context = authority.trust()
    context.check_hostname = False
    return context


def test_each_name_has_its_certificate(tmp_path: Path, authority: Authority) -> None:
    serials = {
        "sun": authority.write(tmp_path / "sun.crt", "sun.test", "www.sun.test"),
        "star": authority.write(
            tmp_path / "star" / "fullchain.pem", "star.test", key=tmp_path / "star" / "privkey.pem"
        ),
        "wild": authority.write(tmp_path / "wild.pem", "*.gardens.test"),
        "default": authority.write(tmp_path / "default.crt", "other.test"),
    }

    async def scenario() -> None:
        async with _serving(tmp_path) as (_, _, port):
            trusting = authority.trust()
            for name, which in {
                "sun.test": "sun",
                "WWW.sun.test": "sun",
                "star.test": "star",
                "lily.gardens.test": "wild",
                "other.test": "default",
            }.items():
                assert await _serial(port, trusting, name) == serials[which], name
            careless = _careless(authority)
            for name_or_none in ("gardens.test", "a.b.gardens.test", "nobody.test", None):
                assert await _serial(port, careless, name_or_none) == serials["default"]

    on_both_loops(scenario)


def test_without_a_default_an_unknown_name_is_refused(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test")
    authority.write(tmp_path / "star.crt", "star.test")

    async def scenario() -> None:
        async with _serving(tmp_path) as (_, _, port):
            for name in ("nobody.test", None):
                with pytest.raises(REFUSED):
                    await _connect(port, _careless(authority), name)

    on_both_loops(scenario)


def test_old_protocols_and_weak_ciphers_are_refused(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        async with _serving(tmp_path) as (_, _, port):
            for maximum in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = authority.trust()
                context.maximum_version = maximum
                context.set_alpn_protocols(["h2", "http/1.1"])
                _, writer = await _connect(port, context, "sun.test")
                session: ssl.SSLObject = writer.get_extra_info("ssl_object")
                assert session.version() == maximum.name.replace("_", ".")
                assert session.selected_alpn_protocol() == "http/1.1"
                writer.close()
            old = authority.trust()
            old.set_ciphers("ALL:@SECLEVEL=0")
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            weak = authority.trust()
            weak.maximum_version = ssl.TLSVersion.TLSv1_2
            weak.set_ciphers("AES128-SHA:ECDHE-ECDSA-AES128-SHA")
            for context in (old, weak):
                with pytest.raises(REFUSED):
                    await _connect(port, context, "sun.test")

    with pytest.warns(DeprecationWarning, match="TLSv1"):
        on_both_loops(scenario)


def test_services_and_answers_know_that_it_was_https(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        service = Recorder()
        async with _serving(tmp_path, service) as (_, plain, port):
            reader, writer = await _connect(port, authority.trust(), "sun.test")
            writer.write(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Proto: http\r\n\r\n"))
            [answer] = parse(await asyncio.wait_for(reader.read(), 10))
            assert (answer.status, answer.body) == (200, b"ok")
            writer.close()
            await plain.get("/open/x")
            assert [seen.header("x-forwarded-proto") for seen in service.seen] == ["https", "http"]

    on_both_loops(scenario)


def test_a_refused_upload_is_answered_over_tls_too(tmp_path: Path, authority: Authority) -> None:
    """A TLS connection cannot be half closed; the answer must arrive all the same."""
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        async with _serving(tmp_path) as (_, _, port):
            reader, writer = await _connect(port, authority.trust(), "sun.test")
            head = b"POST /tiny HTTP/1.1\r\nHost: sun.test\r\nContent-Length: 400000\r\n\r\n"
            writer.write(head + b"x" * 400_000)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 413 ")
            writer.close()

    on_both_loops(scenario)


def test_plain_http_and_noise_on_the_tls_port_end_at_once(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        async with _serving(tmp_path) as (_, _, port):
            for said in (GET, b"\x16\x03\x01\xff\xff" + b"\x00" * 2000, b"\r\n\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                try:
                    answer = await asyncio.wait_for(reader.read(), 30)
                except ConnectionResetError:
                    answer = b""
                assert b"HTTP" not in answer
                writer.close()
            assert await _serial(port, authority.trust(), "sun.test")

    on_both_loops(scenario)


def test_who_says_nothing_counts_for_his_address_and_ends(tmp_path: Path, authority: Authority) -> None:
    """A socket that never began its handshake was not counted: anybody could have thousands."""
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        limits = Limits(connections_per_address=2, head_s=1.0)
        async with _serving(tmp_path, limits=limits) as (_, _, port):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await _rest(reader) == b""  # one too many, at once
            writer.close()
            assert [reader.at_eof() for reader, _ in silent] == [False] * 4
            for reader, writer in silent:
                assert b"HTTP" not in await _rest(reader)  # its handshake takes too long
                writer.close()
            for _ in range(3):  # every place was given back
                reader, writer = await _connect(port, authority.trust(), "sun.test")
                writer.write(GET)
                [answer] = parse(await asyncio.wait_for(reader.read(), 10))
                assert answer.status == 200
                writer.close()

    on_both_loops(scenario)


def test_a_stop_leaves_no_handshake_behind(tmp_path: Path, authority: Authority) -> None:
    """They were told to end, and nobody waited: that they had ended was the luck of the loop's order."""
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        tls = Tls(tmp_path, SystemClock())
        tls.read()
        async with edge() as plain:
            before = asyncio.all_tasks()
            server = GatewayServer(plain.gateway, SilentObserver(), tls=tls.context)
            port = await server.start("127.0.0.1", 0)
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            while len(asyncio.all_tasks() - before) < 4:  # the handshakes, and who looks at deadlines
                await asyncio.sleep(0.01)
            await server.stop(drain_s=0.1)
            assert asyncio.all_tasks() == before
            for reader, writer in silent:
                assert b"HTTP" not in await _rest(reader)
                writer.close()

    on_both_loops(scenario)


def test_over_tls_too_one_connection_too_many_is_told_so(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        async with _serving(tmp_path, limits=Limits(connections_per_address=1)) as (_, _, port):
            _, held = await _connect(port, authority.trust(), "sun.test")
            reader, writer = await _connect(port, authority.trust(), "sun.test")
            writer.write(GET)
            [answer] = parse(await asyncio.wait_for(reader.read(), 10))
            assert answer.status == 503
            held.close()
            writer.close()

    on_both_loops(scenario)


def _ipv6(where: str) -> str:
    """An IPv6 address of this machine, with its scope, or skips the test; ``where``: what it begins with."""
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, _, _, _, _, interface = line.split()
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
            if address.startswith(where):
                return f"{address}%{interface}" if where == "fe80:" else address
    pytest.skip(f"no IPv6 address {where} here")


def _answers(folder: Path, authority: Authority, host: str, *addresses: str) -> None:
    """Listening at ``host``, the gateway answers at each of the addresses."""
    authority.write(folder / "sun.crt", "sun.test")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    async def scenario() -> None:
        with socket.create_server(("", 0), family=family) as free:
            port: int = free.getsockname()[1]  # the same for every address
        async with _serving(folder, host=host, at=port) as (_, _, listening_at):
            assert listening_at == port
            for address in addresses:
                there = socket.create_connection((address, port))  # uvloop's loses the scope
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection(sock=there, ssl=authority.trust(), server_hostname="sun.test"), 10
                )
                writer.write(GET)
                [answer] = parse(await asyncio.wait_for(reader.read(), 10))
                assert answer.status == 200, address
                writer.close()

    on_both_loops(scenario)


def test_no_host_means_every_address(tmp_path: Path, authority: Authority) -> None:
    """Without TLS it did; with TLS the listener could not be opened."""
    _answers(tmp_path, authority, "", "127.0.0.1")


def test_no_host_means_every_address_of_ipv6_too(tmp_path: Path, authority: Authority) -> None:
    _answers(tmp_path, authority, "", "127.0.0.1", _ipv6("::1"))


@pytest.mark.parametrize("where", ["::1", "fe80:"])
def test_an_ipv6_address_may_be_listened_on(tmp_path: Path, authority: Authority, where: str) -> None:
    """The scope of a link-local one was dropped, without which it is no address."""
    address = _ipv6(where)
    _answers(tmp_path, authority, address, address)


def test_when_the_process_has_no_file_left_who_comes_waits(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test")

    async def scenario() -> None:
        async with _serving(tmp_path) as (_, _, port):
            waiting = socket.create_connection(("127.0.0.1", port))
            waiting.setblocking(False)
            with capture_logs() as logs, _no_file_left():
                while not logs:
                    await asyncio.sleep(0.01)
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(sock=waiting, ssl=authority.trust(), server_hostname="sun.test"), 10
            )
            writer.write(GET)
            [answer] = parse(await asyncio.wait_for(reader.read(), 10))
            assert answer.status == 200
            writer.close()
            assert {log["event"] for log in logs} == {"cannot accept"}

    on_both_loops(scenario)


@contextmanager
def _no_file_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""


def test_a_renewed_certificate_is_shown_and_open_connections_go_on(
    tmp_path: Path, authority: Authority
) -> None:
    async def scenario() -> None:
        old = authority.write(tmp_path / "sun.crt", "sun.test")
        async with _serving(tmp_path) as (tls, _, port):
            reader, writer = await _connect(port, authority.trust(), "sun.test")
            new = authority.write(tmp_path / "sun.crt", "sun.test")
            star = authority.write(tmp_path / "star.crt", "star.test")
            following = asyncio.create_task(tls.follow(look_s=0.01))
            while (shown := await _serial(port, authority.trust(), "sun.test")) != new:
                assert shown == old
            assert await _serial(port, authority.trust(), "star.test") == star
            writer.write(GET)
            [answer] = parse(await asyncio.wait_for(reader.read(), 10))
            assert answer.status == 200
            writer.close()
            following.cancel()

    on_both_loops(scenario)


def _another_key(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def _encrypted_key(path: Path) -> None:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"geheim"),
        )
    )


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder, _: _another_key(folder / "sun.key"), "sun.key: does not belong to the certificate"),
        (lambda folder, _: _encrypted_key(folder / "sun.key"), "sun.key: is no key that can be used"),
        (lambda folder, _: (folder / "sun.key").write_text("no key"), "sun.key: is no key"),
        (lambda folder, _: (folder / "sun.key").unlink(), "sun.key: No such file"),
        (lambda folder, _: (folder / "sun.crt").write_text("no certificate"), "sun.crt: is no certificate"),
        (lambda folder, _: (folder / "sun.crt").write_bytes(b"\xff" * 99), "sun.crt: is no certificate"),
        (lambda folder, authority: authority.write(folder / "sun.crt"), "sun.crt: names no host"),
        (
            lambda folder, authority: authority.write(
                folder / "sun.crt", "sun.test", valid=(-9 * DAY, timedelta(minutes=-1))
            ),
            "sun.crt: expired on",
        ),
        (
            lambda folder, authority: authority.write(folder / "sun.crt", "sun.test", valid=(DAY, 9 * DAY)),
            "sun.crt: is valid only from",
        ),
    ],
)
def test_a_bad_certificate_is_refused_with_the_reason_and_the_old_one_stays(
    tmp_path: Path, authority: Authority, harm: Any, reason: str
) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test")
    authority.write(tmp_path / "star.crt", "star.test")
    tls = Tls(tmp_path, SystemClock())
    tls.read()
    before = tls.choose("sun.test")
    harm(tmp_path, authority)
    asyncio.run(tls.reload())
    assert tls.choose("sun.test") is before
    assert tls.choose("star.test") is not None
    with pytest.raises(CertificateError, match=reason):
        asyncio.run(tls.check())
    authority.write(tmp_path / "sun.crt", "sun.test")
    asyncio.run(tls.reload())
    assert tls.choose("sun.test") is not before
    assert "2 certificates" in asyncio.run(tls.check())


def test_a_folder_without_a_usable_certificate_is_refused_at_start(
    tmp_path: Path, authority: Authority
) -> None:
    for folder, reason in ((tmp_path / "nowhere", "No such file"), (tmp_path, "holds no certificate")):
        with pytest.raises(CertificateError, match=reason):
            Tls(folder, SystemClock()).read()
    authority.write(tmp_path / "sun.crt", "sun.test")
    _another_key(tmp_path / "sun.key")
    with pytest.raises(CertificateError, match="does not belong"):
        Tls(tmp_path, SystemClock()).read()


def test_a_folder_that_vanishes_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "tls"
    authority.write(folder / "sun.crt", "sun.test")
    tls = Tls(folder, SystemClock())
    tls.read()
    folder.rename(tmp_path / "away")
    asyncio.run(tls.reload())
    assert tls.choose("sun.test") is not None


def test_what_ends_soon_is_told_and_what_has_ended_is_unhealthy(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path / "sun.crt", "sun.test", valid=(-DAY, 3 * DAY))
    authority.write(tmp_path / "star.crt", "star.test")
    tls = Tls(tmp_path, SystemClock())
    tls.read()
    told = asyncio.run(tls.check())
    assert told.startswith("sun expires on ")
    assert "star" not in told
    assert set(tls.expiries()) == {"sun", "star"}
    authority.write(tmp_path / "lily.crt", "lily.test", valid=(-9 * DAY, -DAY))
    asyncio.run(tls.reload())
    assert tls.choose("lily.test") is not None  # better than none, and said
    with pytest.raises(CertificateError, match="lily expired on"):
        asyncio.run(tls.check())


def test_of_two_certificates_for_one_name_the_longer_one_is_shown(
    tmp_path: Path, authority: Authority
) -> None:
    authority.write(tmp_path / "a.crt", "sun.test", valid=(-DAY, 200 * DAY))
    authority.write(tmp_path / "b.crt", "sun.test", valid=(-DAY, 20 * DAY))
    tls = Tls(tmp_path, SystemClock())
    tls.read()
    chosen = tls.choose("sun.test")
    assert chosen is not None
    assert chosen.name == "a"
