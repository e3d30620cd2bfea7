"""The setting ``upstreams``: where the services behind a gateway are.

    YUANLIAN_UPSTREAMS="tenant-service=http://10.0.0.1:9101,http://10.0.0.2:9101;*=http://10.0.0.3:9101"

or, in ``yuanlian.toml``, a table ``[upstreams]`` with a list for each service. ``*`` stands for all
services that are not named.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from yuanlian.contracts.edge import EVERY_SERVICE

_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_PLAIN = re.compile(r"[\w .-]*")  # as no URL is
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def parse_upstreams(value: Any) -> dict[str, tuple[str, ...]]:
    """``value``: the text of the environment, or a table of the file.

    Raises:
        ValueError: says what is wrong, and where.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if not isinstance(value, Mapping):
        raise ValueError("must be SERVICE=URL,URL;SERVICE=URL, or a table of lists")  # noqa: TRY004 - for pydantic
    found: dict[str, tuple[str, ...]] = {}
    for service, urls in value.items():
        listed = (urls,) if isinstance(urls, str) else urls
        if not isinstance(listed, list | tuple) or not all(isinstance(url, str) for url in listed):
            raise ValueError(f"{service}: must be a list of URLs")
        found[_service(str(service))] = _urls(str(service), tuple(listed))
    return found


def host_and_port(url: str) -> tuple[str, int]:
    """Of a URL that ``parse_upstreams`` accepted."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def _parse_text(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for number, part in enumerate(filter(None, (part.strip() for part in text.split(";"))), 1):
        service, separator, urls = part.partition("=")
        if not separator:
            raise ValueError(f"part {number}: must be SERVICE=URL,URL")
        name = _service(service.strip())
        if name in found:
            raise ValueError(f"{name}: named twice")
        found[name] = _urls(name, tuple(url.strip() for url in urls.split(",")))
    return found


def _service(name: str) -> str:
    if name != EVERY_SERVICE and not _SERVICE.fullmatch(name):
        shown = repr(name) if _PLAIN.fullmatch(name) else "what stands there"
        raise ValueError(f"{shown}: is no name of a service")
    return name


def _urls(service: str, urls: tuple[str, ...]) -> tuple[str, ...]:
    if not urls:
        raise ValueError(f"{service}: has no URL")
    if len(set(urls)) != len(urls):
        raise ValueError(f"{service}: has a URL twice")
    for number, url in enumerate(urls, 1):
        if reason := _fault(url):
            # By its number: what is no URL may be half of a password.
            raise ValueError(f"{service}: URL {number} {reason}")
    return urls


def _fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme != "http":
        return "must be http://HOST:PORT"
    if parts.username is not None or parts.password is not None:
        return "must not have a user or a password"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "must be http://HOST:PORT without a path"
    if port == 0 or not _is_host(parts.hostname or ""):
        return "must be http://HOST:PORT"
    return None


def _is_host(host: str) -> bool:
    if _HOST.fullmatch(host):
        return True
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
