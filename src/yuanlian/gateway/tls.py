"""The public listener's TLS: which certificate for whom, and new ones while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import structlog

from yuanlian.gateway import certificates
from yuanlian.gateway.certificates import DEFAULT, Certificate, CertificateError, Pair, Stamp
from yuanlian.kit.clock import Clock

LOOK_S = 1.0
SOON_S = 21 * 24 * 3600
"""Before a certificate ends, operators are told: weeks, for renewing may need people."""

_log = structlog.get_logger("tls")


class Tls:
    """``context``: for the listener. Connections under way keep what they began with.

    ``read`` and ``has_changed`` touch the disk, which may be far away: call them off the event loop.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._loaded: dict[str, Certificate] = {}
        self._refused: dict[str, str] = {}
        self._by_host: dict[str, Certificate] = {}
        self._default: Certificate | None = None
        self._read: dict[str, Stamp] | None = None
        self._seen: dict[str, Stamp] | None = None
        self.context = certificates.server_context()
        self.context.sni_callback = self._choose

    def read(self) -> None:
        """Takes what the folder has now. A certificate that cannot be used is refused, and the one that
        was there under its name stays; one whose files are gone goes.

        Raises:
            CertificateError: none can be used.
        """
        # Before the content: what is written meanwhile makes another stamp.
        self._read = self._seen = self._stamps()
        now = self._clock.now_ms() / 1000
        loaded: dict[str, Certificate] = {}
        refused: dict[str, str] = {}
        for pair in certificates.find(self._folder):
            old = self._loaded.get(pair.name)
            try:
                loaded[pair.name] = _renewed(pair, old, now)
            except CertificateError as error:
                refused[pair.name] = str(error)
                if old is not None:
                    loaded[pair.name] = old
        if not loaded:
            raise CertificateError("; ".join(refused.values()) or f"{self._folder}: holds no certificate")
        only = next(iter(loaded.values())) if len(loaded) == 1 else None
        self._loaded, self._refused = loaded, refused
        self._by_host = certificates.by_host(loaded.values())
        self._default = loaded.get(DEFAULT, only)

    def has_changed(self) -> bool:
        """Whether there is something else than what was last read, and it came to rest: of two files
        that belong together, one may be new and the other not yet."""
        before, self._seen = self._seen, self._stamps()
        return self._seen == before != self._read

    async def reload(self) -> None:
        """``read`` while serving; what is wrong is logged."""
        try:
            await asyncio.to_thread(self.read)
        except CertificateError as error:
            _log.error("certificates refused, the old ones stay", reason=str(error))
            return
        for name, reason in self._refused.items():
            kept = name in self._loaded
            _log.error("certificate refused", name=name, reason=reason, the_old_one_stays=kept)
        _log.info("certificates read", certificates=sorted(self._loaded))

    async def follow(self, look_s: float = LOOK_S) -> None:
        """Reloads whenever the folder has changed, until cancelled."""
        while True:
            await asyncio.sleep(look_s)
            if await asyncio.to_thread(self.has_changed):
                await self.reload()

    def expiries(self) -> dict[str, float]:
        """When each certificate ends, in epoch seconds, by name."""
        return {name: certificate.not_after for name, certificate in self._loaded.items()}

    async def check(self) -> str:
        """A health check: says what ends soon; raises for what has ended or was refused."""
        now = self._clock.now_ms() / 1000
        loaded = self._loaded.values()
        ended = [f"{one.name} {_standing(one, now)}" for one in loaded if not one.is_valid(now)]
        if wrong := [*ended, *self._refused.values()]:
            raise CertificateError("; ".join(wrong))
        soon = [one for one in loaded if one.not_after < now + SOON_S]
        told = [f"{one.name} expires on {_date(one.not_after)}" for one in soon]
        return "; ".join(told) or f"{len(loaded)} certificates, none of which expires soon"

    def choose(self, host: str | None) -> Certificate | None:
        """The certificate for a host: of its name, of a wildcard one level above, or the default."""
        name = (host or "").lower().rstrip(".")
        _, _, above = name.partition(".")
        return self._by_host.get(name) or self._by_host.get(f"*.{above}") or self._default

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, host: str | None, _context: ssl.SSLContext
    ) -> int | None:
        """Called by OpenSSL at each ClientHello."""
        certificate = self.choose(host)
        if certificate is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = certificate.context
        return None

    def _stamps(self) -> dict[str, Stamp] | None:
        with contextlib.suppress(CertificateError):
            return {pair.name: pair.stamp() for pair in certificates.find(self._folder)}
        return None


def _renewed(pair: Pair, old: Certificate | None, now: float) -> Certificate:
    """Raises:
    CertificateError: it cannot be used, or is no longer (or not yet) valid where the old one is.
    """
    new = certificates.load(pair)
    if old is not None and old.is_valid(now) and not new.is_valid(now):
        raise CertificateError(f"{pair.chain}: {_standing(new, now)}")
    return new


def _standing(certificate: Certificate, now: float) -> str:
    if now < certificate.not_before:
        return f"is valid only from {_date(certificate.not_before)}"
    return f"expired on {_date(certificate.not_after)}"


def _date(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
