"""Reading ``routes.yaml``: every refusal names its line. CONTRACT §4."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import yaml

from yuanlian.gateway import answer_headers
from yuanlian.gateway.cors import CorsRule
from yuanlian.gateway.http import Method

Protocol = Annotated[str, msgspec.Meta(pattern="^(?!h2c$)[a-z0-9][a-z0-9.-]*$")]
"""What a route may leave HTTP for, ``websocket`` mostly. Not ``h2c``: it would be HTTP again, unchecked."""
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
    retries: Annotated[int, msgspec.Meta(ge=0, le=5)] = 2
    cors: CorsRule | None = None
    headers: dict[str, str | None] = {}
    upgrade: list[Protocol] = []

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            if reason := answer_headers.problem(name, value):
                raise ValueError(f"`{name}` {reason} - at `$.headers.{name}`")


def parse(text: str) -> list[Entry]:
    """The entries under ``routes:``.

    Raises:
        RoutesError: not YAML, an unknown or missing field, a wrong value, a path or method twice; of
            several, the first.
    """
    entries, refusals = read(text)
    if refusals:
        raise refusals[0]
    return [entry for _, entry in entries]


def read(text: str) -> tuple[list[tuple[int, Entry]], list[RoutesError]]:
    """All usable entries with their lines, and what is wrong with the others, in order of lines.

    Raises:
        RoutesError: the text as a whole is no table.
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
    entries: list[tuple[int, Entry]] = []
    refusals: list[RoutesError] = []
    seen: dict[tuple[str, str], int] = {}
    for node in _items(document):
        line = node.start_mark.line + 1
        try:
            entry = _entry(node)
            _refuse_repeats(line, entry, seen)
        except RoutesError as refusal:
            refusals.append(refusal)
        else:
            entries.append((line, entry))
    return entries, refusals


def _items(document: yaml.Node | None) -> list[yaml.Node]:
    if not isinstance(document, yaml.MappingNode):
        raise RoutesError(1, "expected a mapping with the key `routes`")
    _refuse_keys_given_twice(document)
    for key, value in document.value:
        if key.value != "routes":
            raise RoutesError(key.start_mark.line + 1, f"unknown key `{key.value}`")
        if not isinstance(value, yaml.SequenceNode):
            raise RoutesError(value.start_mark.line + 1, "`routes` must be a list")
        items: list[yaml.Node] = value.value
        return items
    raise RoutesError(1, "expected a mapping with the key `routes`")


def _refuse_keys_given_twice(node: yaml.Node, looked_at: set[int] | None = None) -> None:
    """Of two values, YAML silently takes the last. ``looked_at``: a node may be its own alias."""
    looked_at = set() if looked_at is None else looked_at
    if id(node) in looked_at or not isinstance(node, yaml.MappingNode):
        return
    looked_at.add(id(node))
    seen = set()
    for key, value in node.value:
        name = str(key.value)
        if name in seen:
            raise RoutesError(key.start_mark.line + 1, f"`{name}` is given twice")
        seen.add(name)
        _refuse_keys_given_twice(value, looked_at)


def _entry(node: yaml.Node) -> Entry:
    line = node.start_mark.line + 1
    _refuse_keys_given_twice(node)
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


def _refuse_repeats(line: int, entry: Entry, seen: dict[tuple[str, str], int]) -> None:
    for method in entry.methods:
        first = seen.setdefault((entry.path.rstrip("/"), method), line)
        if first != line:
            raise RoutesError(line, f"`{method} {entry.path}` is already on line {first}")
