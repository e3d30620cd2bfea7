"""Every setting, from ``YUANLIAN_*``, else ``yuanlian.toml``, else these defaults. CONTRACT §1.

The environment is read here and nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from yuanlian.runtime.refusals import Refusal
from yuanlian.runtime.upstreams import parse_upstreams

PREFIX = "YUANLIAN_"
FILE = "yuanlian.toml"
MIN_SECRET_BYTES = 32
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)")
_HSTS = r"^(off|max-age=\d+(; includeSubDomains)?(; preload)?)$"


class UnsupportedSettingError(Refusal):
    """A setting asks for an adapter that this release does not have."""


def shown(url: str) -> str:
    """What of a URL may stand in a message: the rest may be a password, as may a text that is no URL."""
    scheme = _SCHEME.match(url)
    return f"{scheme[0]}:…" if scheme else "a text without a scheme"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=FILE, extra="forbid", frozen=True)

    env: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(default=8081, ge=0, le=65535)
    data_dir: Path = Path("var")
    database_url: str | None = None
    """``sqlite:///path``; ``sqlite+aiosqlite:///path`` means the same. Default: inside ``data_dir``. Parts
    in processes of their own: ``mysql+asyncmy://user:password@host/database``."""
    bus_url: str = "local://"
    """Parts in processes of their own: ``amqp[s]://user:password@host/``."""
    cache_url: str = "memory://"
    """Limits, cache and live events. Parts in processes of their own: ``redis[s]://:password@host:6379/0``,
    with ``?cluster=true`` for a node of a cluster."""
    registry_url: str = "memory://"
    """Likewise; may be the same."""
    storage_url: str | None = None
    jwt_secret: SecretStr | None = None
    """At least 32 bytes. Outside production one is made and kept in ``data_dir``."""
    routes: Path | None = None
    smtp_url: SecretStr | None = None
    """``smtp[s]://user:password@host:587?from=address``; without it mail goes to ``data_dir/mail``."""
    trusted_proxies: tuple[str, ...] = ()
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    drain_s: float = Field(default=4.0, gt=0, le=60)
    """How long requests in flight may take after a stop was asked for."""
    tls_dir: Path | None = None
    """Certificates of the public listener; without it, it speaks plain HTTP."""
    hsts: str = Field(default="max-age=31536000", pattern=_HSTS)
    """``Strict-Transport-Security`` of answers where the public listener speaks TLS; ``off``: none."""
    connections_per_address: int = Field(default=1000, ge=1, le=1_000_000)
    header_timeout_s: float = Field(default=10.0, gt=0, le=600)
    """What a client may take for a TLS handshake, and for the head of a request."""
    body_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """How long a body that is being sent may pause."""
    keep_alive_s: float = Field(default=60.0, gt=0, le=3600)
    """How long a client's connection may wait for its next request."""
    bad_tokens_per_minute: int = Field(default=300, ge=0, le=1_000_000)
    """Tokens that are none, from one address; further ones are answered with 429. 0: any number."""
    upstreams: Annotated[dict[str, tuple[str, ...]], NoDecode] = Field(default_factory=dict)
    """For ``run gateway``: service → base URLs of its instances."""
    workers: int = Field(default=1, ge=1, le=256)
    revocations_grace_s: float = Field(default=300.0, ge=0)
    """How long ``run gateway`` accepts tokens without hearing from the auth service."""
    services_host: str = "127.0.0.1"
    services_port: int = Field(default=9101, ge=0, le=65535)
    services_admin_port: int = Field(default=9181, ge=0, le=65535)
    """Of ``run services`` or one of them, which may stand beside a gateway on one machine."""
    advertise_host: str | None = None
    """Where other processes reach a service that registers itself; else ``services_host``."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("upstreams", mode="before")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        return parse_upstreams(value)

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
        return value

    @model_validator(mode="after")
    def _secret_in_production(self) -> Settings:
        if self.env == "production" and self.jwt_secret is None:
            raise ValueError("YUANLIAN_JWT_SECRET is required when YUANLIAN_ENV=production")
        return self

    @property
    def has_database_file(self) -> bool:
        """Whether the database is SQLite's: it goes with the data directory, and one process has it."""
        return self.database_url is None or self.database_url.startswith("sqlite")

    @property
    def database_path(self) -> Path:
        """Where SQLite keeps its file.

        Raises:
            ValueError: the URL names a database that the embedded platform does not speak.
        """
        if self.database_url is None:
            return self.data_dir / "yuanlian.db"
        scheme, _, path = self.database_url.partition(":///")
        if scheme not in ("sqlite", "sqlite+aiosqlite") or not path:
            raise ValueError(f"database_url: {shown(self.database_url)} is not sqlite:///PATH")
        return Path(path)

    @property
    def is_distributed(self) -> bool:
        """Whether parts find each other in a registry that other processes have, too."""
        return self.registry_url != "memory://"

    @property
    def has_token_secret(self) -> bool:
        """Whether there is one that another process may have, too."""
        return self.jwt_secret is not None or self._secret_path.is_file()

    @property
    def _secret_path(self) -> Path:
        return self.data_dir / "jwt.secret"

    def token_secret(self) -> bytes:
        """The key of access tokens: configured, or made once and kept readable by its owner only."""
        if self.jwt_secret is not None:
            return self.jwt_secret.get_secret_value().encode()
        path = self._secret_path
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(48))
        return path.read_text().strip().encode()

    def internal_secret(self) -> bytes:
        """The key of ``X-Identity``: derived, so that services never hold the one of access tokens."""
        return hmac.new(self.token_secret(), b"yuanlian internal identity", hashlib.sha256).digest()


def revealed(settings: Settings) -> dict[str, Any]:
    """Every setting as plain values, secrets included: for a worker, over a socket that is only ours."""
    values = settings.model_dump()
    for name, value in values.items():
        if isinstance(value, SecretStr):
            values[name] = value.get_secret_value()
        elif isinstance(value, Path):
            values[name] = str(value)
    return values


def origins(options: Collection[str]) -> dict[str, str]:
    """Where each setting comes from; ``options``: those given on the command line."""
    sources = {
        "option": options,
        "environment": EnvSettingsSource(Settings)(),
        FILE: TomlConfigSettingsSource(Settings)(),
    }
    return {
        name: next((source for source, names in sources.items() if name in names), "default")
        for name in Settings.model_fields
    }


def unknown_variables() -> list[str]:
    """What looks like a setting in the environment, and is none: a slip of the pen, perhaps."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name.upper() not in known)
