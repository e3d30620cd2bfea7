"""Reading ``routes.yaml``: every refusal names its line. CONTRACT §4."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import yaml

from yuanlian.gateway import answer_headers
from yuanlian.gateway.cors import CorsRule
from yuanlian.gateway.http import Method

Positive = Annotated[int, msgspec.Meta(ge=1)]


class RoutesError(Exception):
    """The table cannot be used. ``line`` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        self.reason = reason
        super().__init__(f"line {line}: {reason}")


class RateLimit(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    windowMs: Positive
    max: Positive


class Entry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One route as written in the file."""

    path: Annotated[str, msgspec.Meta(pattern="^/")]
    service: Annotated[str, msgspec.Meta(min_length=1)]
    methods: Annotated[list[Method], msgspec.Meta(min_length=1)]
    auth: bool = True
    rateLimit: RateLimit | None = None
    limitBy: Literal["user", "tenant", "ip"] = "user"
    timeoutMs: Positive = 30_000
    maxBodyBytes: Annotated[int, msgspec.Meta(ge=0)] = 1024 * 1024
    retries: Annotated[int, msgspec.Meta(ge=0, le=5)] = 0
    cors: CorsRule | None = None
    headers: dict[str, str | None] = {}

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            if reason := answer_headers.problem(name, value):
                raise ValueError(f"`{name}` {reason} - at `$.headers.{name}`")


def parse(text: str) -> list[Entry]:
    """The entries under ``routes:``.

    Raises:
        RoutesError: not YAML, an unknown or missing field, a wrong value, a path or method twice.
    """
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RoutesError(mark.line + 1 if mark else 1, error.problem or "not YAML") from None
    except yaml.YAMLError as error:
        raise RoutesError(1, str(error)) from None
    except RecursionError:
        raise RoutesError(1, "nested too deeply") from None
    entries = [(node, _entry(node)) for node in _items(document)]
    _refuse_repeats([(node.start_mark.line + 1, entry) for node, entry in entries])
    return [entry for _, entry in entries]


def _items(document: yaml.Node | None) -> list[yaml.Node]:
    if not isinstance(document, yaml.MappingNode):
        raise RoutesError(1, "expected a mapping with the key `routes`")
    for key, value in document.value:
        if key.value != "routes":
            raise RoutesError(key.start_mark.line + 1, f"unknown key `{key.value}`")
        if not isinstance(value, yaml.SequenceNode):
            raise RoutesError(value.start_mark.line + 1, "`routes` must be a list")
        items: list[yaml.Node] = value.value
        return items
    raise RoutesError(1, "expected a mapping with the key `routes`")


def _entry(node: yaml.Node) -> Entry:
    line = node.start_mark.line + 1
    loader = yaml.SafeLoader("")
    try:
        value: Any = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or node.start_mark
        raise RoutesError(mark.line + 1, error.problem or "not YAML") from None
    except ValueError as error:  # what looks like a date and is none
        raise RoutesError(line, str(error)) from None
    finally:
        loader.dispose()
    try:
        entry = msgspec.convert(value, Entry)
    except msgspec.ValidationError as error:
        raise RoutesError(_line_of(node, str(error)), str(error).replace("`$.", "`")) from None
    segments = entry.path.split("/")
    if "**" in segments[:-1] or any("*" in s and s not in ("*", "**") for s in segments):
        raise RoutesError(line, f"`{entry.path}`: `*` stands for a whole segment, `**` for the last ones")
    return entry


def _line_of(node: yaml.Node, message: str) -> int:
    """The line of the field that msgspec complains about, else the line of the route."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            if f"$.{name}" in message or f"unknown field `{name}`" in message:
                return (
                    _line_of(value, message.replace(f"$.{name}", "$"))
                    if f"$.{name}." in message
                    else (key.start_mark.line + 1)
                )
    return node.start_mark.line + 1


def _refuse_repeats(entries: list[tuple[int, Entry]]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for line, entry in entries:
        for method in entry.methods:
            first = seen.setdefault((entry.path.rstrip("/"), method), line)
            if first != line:
                raise RoutesError(line, f"`{method} {entry.path}` is already on line {first}")
