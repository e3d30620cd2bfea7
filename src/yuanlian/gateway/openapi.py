"""One OpenAPI document out of those of the services."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from yuanlian.kit.envelope import ErrorEnvelope

MISSING = "x-missing-services"
"""In a document: the services that could not be asked."""
_SCHEMAS = "#/components/schemas/"
_MODULE_PATH = re.compile(r"(?<![A-Za-z0-9])(?:[a-z][a-z0-9_]*\.)+")
_ERROR = {"$ref": _SCHEMAS + "ErrorEnvelope"}


def merge(documents: Mapping[str, Mapping[str, Any]], title: str, version: str) -> dict[str, Any]:
    """``documents``: OpenAPI 3.1 by service name. Operations are tagged with their service; schemas are
    named ``service.Schema``, so that two services never mean each other's. Every error is the
    envelope, whatever the framework behind a service says of its own."""
    paths: dict[str, Any] = {}
    _, schemas = msgspec.json.schema_components([ErrorEnvelope], ref_template=_SCHEMAS + "{name}")
    for service, document in documents.items():
        own: Mapping[str, Any] = (document.get("components") or {}).get("schemas") or {}
        names = _public_names(service, own)
        for name, schema in own.items():
            schemas[names[name]] = _renamed(schema, names)
        for path, item in (document.get("paths") or {}).items():
            operations = {method: _operation(entry, service, names) for method, entry in item.items()}
            paths[path] = {**paths.get(path, {}), **operations}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "tags": [{"name": service} for service in documents],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"bearer": []}],
    }


def join(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One of several that ``merge`` has made, each of other services."""
    first, *others = documents
    joined: dict[str, Any] = {**first, "tags": [*first["tags"]], "paths": {**first["paths"]}}
    schemas = {**first["components"]["schemas"]}
    for document in others:
        joined["tags"] += document["tags"]
        joined["paths"] |= document["paths"]
        schemas |= document["components"]["schemas"]
    joined["components"] = {**first["components"], "schemas": schemas}
    return joined


def _public_names(service: str, names: Iterable[str]) -> dict[str, str]:
    """Without the modules that they come from: ``Body_package.schemas.Login_`` → ``Body_Login``,
    unless that is the name of two."""
    short = {name: _MODULE_PATH.sub("", name).strip("_") for name in names}
    uses = Counter(short.values())
    return {name: f"{service}.{brief if uses[brief] == 1 else name}" for name, brief in short.items()}


def _operation(entry: Any, service: str, names: Mapping[str, str]) -> Any:
    if not isinstance(entry, Mapping) or "responses" not in entry:
        return _renamed(entry, names)
    operation = _renamed(entry, names)
    operation["tags"] = [service]
    for status, response in operation["responses"].items():
        if str(status).startswith(("4", "5")):
            response["content"] = {"application/json": {"schema": _ERROR}}
    return operation


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """A copy of a piece of the document with its references following ``names``."""
    if isinstance(node, Mapping):
        return {
            key: _reference(value, names) if key == "$ref" else _renamed(value, names)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [_renamed(item, names) for item in node]
    return node


def _reference(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith(_SCHEMAS):
        name = value.removeprefix(_SCHEMAS)
        return _SCHEMAS + names.get(name, name)
    return _renamed(value, names)
