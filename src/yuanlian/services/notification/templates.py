"""The words of notifications and e-mails, in both languages.

Values are filled into fixed sentences: they are never read as a template, as HTML or as a header.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from yuanlian.kit.clock import local_datetime
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.i18n import Locale, Text
from yuanlian.kit.tenancy.directory import DEFAULT_ZONE

ANNOUNCEMENT = "announcement"


class Template(NamedTuple):
    title: Text
    body: Text


class Words(NamedTuple):
    title: str
    body: str


TEMPLATES = {
    "attendance_check_in": Template(
        Text("{studentName}已入园", "{studentName} has arrived"),
        Text(
            "{className} {studentName} 于 {when} 入园。{measured}",
            "{studentName} ({className}) arrived at {when}.{measured}",
        ),
    ),
    "attendance_check_out": Template(
        Text("{studentName}已离园", "{studentName} has left"),
        Text(
            "{className} {studentName} 于 {when} 离园。",
            "{studentName} ({className}) left at {when}.",
        ),
    ),
    "attendance_absent": Template(
        Text("{studentName}缺勤", "{studentName} is absent"),
        Text(
            "{className} {studentName} 在 {date} 被登记为缺勤。如有疑问，请联系老师。",
            "{studentName} ({className}) was recorded absent on {date}. Please ask the teacher if in doubt.",
        ),
    ),
    ANNOUNCEMENT: Template(Text("{title}", "{title}"), Text("{body}", "{body}")),
}
_MEASURED = Text("体温 {temperature} ℃。", " Temperature {temperature} °C.")


def render(template: str, variables: Mapping[str, Any], locale: Locale) -> Words:
    """The words of one message.

    Raises:
        ValidationError: there is no such template, or a variable is missing or of the wrong kind.
    """
    known = TEMPLATES.get(template)
    if known is None:
        raise ValidationError.of("template", "没有这个模板", "is not a known template")
    try:
        values = {**variables, **_derived(variables, locale)}
        return Words(
            one_line(known.title.render(locale).format_map(values)),
            known.body.render(locale).format_map(values).strip(),
        )
    except (KeyError, ValueError, TypeError, OverflowError):
        raise ValidationError.of("variables", "模板变量不完整", "do not fill the template") from None


def as_html(words: Words, locale: Locale) -> str:
    """The same words as a small HTML page."""
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in words.body.splitlines() if line.strip())
    title = html.escape(words.title)
    language = "zh-CN" if locale == "zh" else "en"
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title></head>'
        f"<body><h1>{title}</h1>{paragraphs}</body></html>"
    )


def one_line(text: str) -> str:
    """``text`` without line breaks or control characters: fit for a header."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def _derived(variables: Mapping[str, Any], locale: Locale) -> dict[str, str]:
    """Local time, date and temperature, as a person reads them."""
    derived = {"measured": ""}
    if "occurredAt" in variables:
        zone = ZoneInfo(variables.get("timeZone", DEFAULT_ZONE))
        derived["when"] = f"{local_datetime(int(variables['occurredAt']), zone):%H:%M}"
    if "date" in variables:
        derived["date"] = _day(date.fromisoformat(variables["date"]), locale)
    if variables.get("temperature") is not None:
        temperature = f"{float(variables['temperature']):.1f}"
        derived["measured"] = _MEASURED.render(locale).format(temperature=temperature)
    return derived


def _day(day: date, locale: Locale) -> str:
    return f"{day.month}月{day.day}日" if locale == "zh" else day.isoformat()
