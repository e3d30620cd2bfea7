"""Bilingual text. A message is written once, in both languages, where it is raised."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Locale = Literal["zh", "en"]
DEFAULT_LOCALE: Locale = "zh"


class Text(NamedTuple):
    """One message in every language we speak; placeholders are ``str.format`` fields."""

    zh: str
    en: str

    def with_(self, **values: Any) -> Text:
        """The same message with its placeholders filled, in both languages."""
        return Text(self.zh.format(**values), self.en.format(**values))

    def render(self, locale: Locale) -> str:
        return self.en if locale == "en" else self.zh


def negotiate(accept_language: str | None) -> Locale:
    """The best locale for an ``Accept-Language`` header (RFC 9110 §12.5.4); zh-CN otherwise."""
    best: Locale = DEFAULT_LOCALE
    best_quality = 0.0
    for part in (accept_language or "")[:200].split(","):
        tag, _, parameters = part.strip().partition(";")
        primary = tag.strip().lower().split("-")[0]
        if primary not in ("zh", "en"):
            continue
        quality = _quality(parameters)
        if quality > best_quality:
            best, best_quality = ("en" if primary == "en" else "zh"), quality
    return best


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
