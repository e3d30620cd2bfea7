"""Certificates for tests, from an authority of their own."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates; ``trust`` makes a client that believes them."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("tests' authority")
        self._certificate = self._sign(
            self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), (), (-DAY, 365 * DAY)
        )

    def write(
        self,
        chain: Path,
        *hosts: str,
        key: Path | None = None,
        valid: tuple[timedelta, timedelta] = (-DAY, 90 * DAY),
    ) -> str:
        """Puts certificate and key into place, each in one step, as tools that renew them do. Returns the
        certificate's serial number as ``ssl`` tells it."""
        private = ec.generate_private_key(ec.SECP256R1())
        leaf = self._sign(
            _name(hosts[0] if hosts else "nobody"),
            private,
            x509.BasicConstraints(ca=False, path_length=None),
            hosts,
            valid,
        )
        _replace(key or chain.with_suffix(".key"), _pem(private))
        _replace(chain, leaf.public_bytes(serialization.Encoding.PEM))
        digits = f"{leaf.serial_number:X}"
        return digits if len(digits) % 2 == 0 else f"0{digits}"

    @property
    def certificate(self) -> bytes:
        """PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=self.certificate.decode())
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        constraints: x509.BasicConstraints,
        hosts: tuple[str, ...],
        valid: tuple[timedelta, timedelta],
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if constraints.ca:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)
