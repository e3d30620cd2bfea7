"""E-mail over SMTP, against a real server on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.services.notification.world import World, event, play

from yuanlian.contracts.attendance import Recipient
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.services.notification.mailer import Email
from yuanlian.services.notification.smtp import SmtpMailer

LETTERS = [
    Email(f"msg_{n}", f"{n}@example.org", "题目", "正文\n", "<p>正文</p>", 1_700_000_000_000)
    for n in ("a", "b", "c")
]


class Post:
    """A mail server's decisions. ``replies``: what it says to a recipient, one after another; then 250."""

    def __init__(self, **replies: list[str]) -> None:
        self.replies = replies
        self.taken: list[Any] = []
        self.secure: list[bool] = []
        self.connections = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Any, envelope: Any, address: str, _options: Sequence[str]
    ) -> str:
        answers = self.replies.get(address.partition("@")[0], [])
        if answers:
            return answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - the same
        self.taken.append(envelope)
        self.secure.append(session.ssl is not None)
        return "250 OK"

    @property
    def recipients(self) -> list[str]:
        return [address.partition("@")[0] for envelope in self.taken for address in envelope.rcpt_tos]


class Door(SMTP):
    """Remembers the socket's own transport, which STARTTLS hides behind another."""

    def connection_made(self, transport: Any) -> None:
        self.socket_transport = getattr(self, "socket_transport", transport)
        super().connection_made(transport)


@asynccontextmanager
async def serving(post: Post, **options: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    doors: list[Door] = []

    def connected() -> Door:
        post.connections += 1
        doors.append(Door(post, loop=loop, hostname="mail.test", **options))
        return doors[-1]

    server = await loop.create_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for door in doors:
            door.socket_transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Takes connections and says nothing."""
    transports: list[Any] = []

    class Silence(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(transport)

    server = await asyncio.get_running_loop().create_server(Silence, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for transport in transports:
            transport.abort()
    await asyncio.sleep(0)


def test_letters_of_one_call_share_a_connection() -> None:
    async def scenario() -> None:
        post = Post()
        async with serving(post) as port:
            outcomes = await SmtpMailer(f"smtp://127.0.0.1:{port}?from=school@example.org").send(LETTERS)
        assert [o.result for o in outcomes] == ["sent"] * 3
        assert post.recipients == ["a", "b", "c"]
        assert post.connections == 1
        letter = message_from_bytes(post.taken[0].content, policy=default)
        assert letter["From"] == "school@example.org"
        assert letter["Message-ID"] == "<msg_a@example.org>"
        assert letter["Subject"] == "题目"
        assert post.taken[0].mail_from == "school@example.org"

    asyncio.run(scenario())


def test_a_permanent_refusal_is_the_recipients_alone() -> None:
    async def scenario() -> None:
        post = Post(a=["550 no such user"], b=["451 come back later"])
        async with serving(post) as port:
            outcomes = await SmtpMailer(f"smtp://127.0.0.1:{port}").send(LETTERS)
        assert [o.result for o in outcomes] == ["refused", "deferred", "sent"]
        assert outcomes[0].reason.startswith("550")
        assert post.recipients == ["c"]

    asyncio.run(scenario())


def test_a_silent_or_absent_server_defers_everything() -> None:
    async def scenario() -> None:
        async with serving(Post()) as port:
            pass
        outcomes = await SmtpMailer(f"smtp://127.0.0.1:{port}").send(LETTERS)
        assert [o.result for o in outcomes] == ["deferred"] * 3

        async with silent_server() as port:
            outcomes = await SmtpMailer(f"smtp://127.0.0.1:{port}", timeout=0.05).send(LETTERS)
        assert [o.result for o in outcomes] == ["deferred"] * 3

    asyncio.run(scenario())


def test_a_server_can_be_tried_without_a_letter() -> None:
    async def scenario() -> None:
        post = Post()
        async with serving(post) as port:
            await SmtpMailer(f"smtp://127.0.0.1:{port}").ping()
            with pytest.raises(ConnectionError, match="SMTPException"):
                # It offers no sign-in.
                await SmtpMailer(f"smtp://name:geheim@127.0.0.1:{port}").ping()
        assert post.connections == 2
        with pytest.raises(ConnectionError, match="SMTPConnectError"):
            await SmtpMailer(f"smtp://127.0.0.1:{port}").ping()

    asyncio.run(scenario())


def check_password(_server: SMTP, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    right = (data.login, data.password) == (b"school@example.org", b"p@ss")
    return AuthResult(success=right, handled=False)


# aiosmtpd sets its own deprecated attribute after a sign-in.
@pytest.mark.filterwarnings("ignore:Session.login_data is deprecated")
def test_the_url_carries_the_credentials(tmp_path: Path) -> None:
    async def scenario() -> None:
        server_side, client_side = certificates(tmp_path)
        post = Post()
        options = {"authenticator": check_password, "auth_required": True, "tls_context": server_side}
        async with serving(post, **options) as port:
            right = SmtpMailer(f"smtp://school%40example.org:p%40ss@127.0.0.1:{port}", trust=client_side)
            assert [o.result for o in await right.send(LETTERS[:1])] == ["sent"]
            assert post.taken[0].mail_from == "school@example.org"
            wrong = SmtpMailer(f"smtp://school%40example.org:other@127.0.0.1:{port}", trust=client_side)
            # The operator's mistake, not the recipient's: worth another attempt once it is mended.
            [outcome] = await wrong.send(LETTERS[:1])
            assert (outcome.result, outcome.reason) == ("deferred", "535 SMTPAuthenticationError")

    asyncio.run(scenario())


def test_a_password_never_leaves_the_machine_unencrypted() -> None:
    async def scenario() -> None:
        post = Post()
        async with serving(post) as port:
            # 0.0.0.0 leads to the same server and is not one of loopback's own names.
            mailer = SmtpMailer(f"smtp://user:secret@0.0.0.0:{port}")
            [outcome] = await mailer.send(LETTERS[:1])
        assert outcome == ("deferred", "SMTPException")
        assert (post.connections, post.taken) == (1, [])

    asyncio.run(scenario())


def test_the_connection_is_upgraded_when_the_server_offers_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        server_side, client_side = certificates(tmp_path)
        post = Post()
        async with serving(post, tls_context=server_side) as port:
            url = f"smtp://127.0.0.1:{port}"
            assert [o.result for o in await SmtpMailer(url, trust=client_side).send(LETTERS[:1])] == ["sent"]
            assert post.secure == [True]
            # A certificate that nobody we know has signed.
            assert [o.result for o in await SmtpMailer(url).send(LETTERS[:1])] == ["deferred"]
            assert len(post.taken) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["", "localhost:25", "http://mail.test", "smtp://"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SMTP URL"):
        SmtpMailer(url)


def test_one_deferred_letter_does_not_send_the_others_again(tmp_path: Path) -> None:
    people = tuple(Recipient(f"guardian_{n}", n, "父亲", email=f"{n}@example.org") for n in "abc")
    post = Post(b=["451 busy", "451 busy"], c=["550 unknown"])

    async def scenario() -> None:
        async with serving(post) as port:
            await asyncio.to_thread(play, tmp_path, deliver, mailer=SmtpMailer(f"smtp://127.0.0.1:{port}"))
        assert sorted(post.recipients) == ["a", "b"]

    async def deliver(world: World) -> None:
        await world.attendance(event(recipients=people))
        batch = await world.queued()
        with pytest.raises(ServiceUnavailableError):
            await world.send(*batch)
        assert await world.receipts() == {
            ("a", "email", "sent"),
            ("b", "email", "queued"),
            ("c", "email", "failed"),
        }
        for message in batch:  # as the bus does when a batch fails: each alone
            if message.data["to"].startswith("b"):
                with pytest.raises(ServiceUnavailableError):
                    await world.send(message)
            elif message.data["to"].startswith("a"):
                await world.send(message)
        await world.send(batch[1])
        assert await world.receipts() == {
            ("a", "email", "sent"),
            ("b", "email", "sent"),
            ("c", "email", "failed"),
        }

    asyncio.run(scenario())


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for 127.0.0.1, and a client's that trusts it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    chain = folder / "server.pem"
    chain.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    client = ssl.create_default_context()
    client.load_verify_locations(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    return server, client
