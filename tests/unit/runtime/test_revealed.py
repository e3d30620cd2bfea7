"""A worker has the very settings of its supervisor, whatever its own environment says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from yuanlian.runtime.settings import Settings, revealed


def test_settings_arrive_as_they_were_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(
        jwt_secret="s" * 40,  # type: ignore[arg-type]
        smtp_url="smtp://user:geheim@host",  # type: ignore[arg-type]
        data_dir=tmp_path,
        tls_dir=tmp_path / "tls",
        upstreams={"*": ("http://127.0.0.1:9101",)},
        trusted_proxies=("10.0.0.0/8",),
        drain_s=7.5,
    )
    monkeypatch.setenv("YUANLIAN_DRAIN_S", "1")
    monkeypatch.setenv("YUANLIAN_UPSTREAMS", "*=http://127.0.0.1:1")
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(revealed(settings)))
    assert Settings(**sent) == settings
    assert Settings(**sent).token_secret() == b"s" * 40
