"""Certificates of the public listener: one per domain, chosen by the name that the client asks for (SNI,
RFC 6066 §3), replaced without dropping a connection.

A folder holds them, in either of two ways:

    sunshine.crt + sunshine.key          any name; the certificate says which hosts it is for
    sunshine/fullchain.pem + privkey.pem as certbot keeps them

``default`` is for clients that ask for none of the names; without it, or when there is only one
certificate, that one is.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

DEFAULT = "default"
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only. Those of TLS 1.3 are all good."""
_SUFFIXES = (".crt", ".pem", ".cer")
_LONGEST_CHAIN = 256 * 1024

Stamp = tuple[tuple[int, int, int] | None, ...]


class CertificateError(Exception):
    """A certificate cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a certificate lies. ``name``: what operators know it by."""

    name: str
    chain: Path
    key: Path

    def stamp(self) -> Stamp:
        return tuple(_stamp(path) for path in (self.chain, self.key))


@dataclass(frozen=True, slots=True)
class Certificate:
    """``hosts``: lower-case names, perhaps ``*.example.com``. Times in epoch seconds."""

    name: str
    hosts: tuple[str, ...]
    not_before: float
    not_after: float
    context: ssl.SSLContext

    def is_valid(self, now: float) -> bool:
        return self.not_before <= now < self.not_after


def find(folder: Path) -> list[Pair]:
    """The certificates of a folder, in order of their names.

    Raises:
        CertificateError: the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CertificateError(f"{folder}: {error.strerror or error}") from None
    found: dict[str, Pair] = {}
    for entry in entries:
        if entry.is_dir():
            pair = Pair(entry.name, entry / "fullchain.pem", entry / "privkey.pem")
        elif entry.suffix in _SUFFIXES:
            pair = Pair(entry.stem, entry, entry.with_suffix(".key"))
        else:
            continue
        if pair.chain.is_file():
            found.setdefault(pair.name, pair)
    return list(found.values())


def load(pair: Pair) -> Certificate:
    """Raises:
    CertificateError: no certificate, no key, one that does not belong to the other, or no host in it.
    """
    leaf = _leaf(pair)
    hosts = _hosts(leaf)
    if not hosts and pair.name != DEFAULT:
        raise CertificateError(f"{pair.chain}: names no host (subjectAltName)")
    context = server_context()
    try:
        # A password, so that nobody is asked for one; it fits no key that has another.
        context.load_cert_chain(pair.chain, pair.key, password="")
    except ssl.SSLError as error:
        raise CertificateError(f"{pair.key}: {_reason(error)}") from None
    except OSError as error:
        raise CertificateError(f"{pair.key}: {error.strerror or error}") from None
    return Certificate(
        name=pair.name,
        hosts=hosts,
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        context=context,
    )


def server_context() -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/1.1 by ALPN, no certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def by_host(certificates: Iterable[Certificate]) -> dict[str, Certificate]:
    """Of two for one host, the one that lasts longer."""
    found: dict[str, Certificate] = {}
    for certificate in sorted(certificates, key=lambda one: one.not_after):
        found.update(dict.fromkeys(certificate.hosts, certificate))
    return found


def _leaf(pair: Pair) -> x509.Certificate:
    try:
        with pair.chain.open("rb") as file:
            content = file.read(_LONGEST_CHAIN)
    except OSError as error:
        raise CertificateError(f"{pair.chain}: {error.strerror or error}") from None
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise CertificateError(f"{pair.chain}: is no certificate (PEM)") from None


def _hosts(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower().rstrip(".") for name in names.get_values_for_type(x509.DNSName))


def _reason(error: ssl.SSLError) -> str:
    reason = (error.reason or "").replace("_", " ").lower()
    if "mismatch" in reason:
        return "does not belong to the certificate"
    return f"is no key that can be used ({reason})" if reason else "is no key that can be used"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
