"""One OpenAPI document out of those of the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SCHEMAS = "#/components/schemas/"


def merge(documents: Mapping[str, Mapping[str, Any]], title: str, version: str) -> dict[str, Any]:
    """``documents``: OpenAPI 3.1 by service name. Operations are tagged with their service. Schemas
    of one name and different content are told apart by the service's name (``tenantService_Page``)."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for service, document in documents.items():
        own: Mapping[str, Any] = (document.get("components") or {}).get("schemas") or {}
        renamed = {
            _SCHEMAS + name: f"{_SCHEMAS}{_prefix(service)}_{name}"
            for name, schema in own.items()
            if name in schemas and schemas[name] != schema
        }
        for name, schema in own.items():
            target = renamed.get(_SCHEMAS + name, _SCHEMAS + name).removeprefix(_SCHEMAS)
            schemas[target] = _renamed(schema, renamed)
        for path, item in (document.get("paths") or {}).items():
            operations = _tagged(_renamed(item, renamed), service)
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


def _prefix(service: str) -> str:
    head, *rest = service.split("-")
    return head + "".join(part.capitalize() for part in rest)


def _tagged(item: dict[str, Any], service: str) -> dict[str, Any]:
    return {
        method: {**operation, "tags": [service]} if isinstance(operation, dict) else operation
        for method, operation in item.items()
    }


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """A copy of a piece of the document with its references following ``names``."""
    if isinstance(node, Mapping):
        return {
            key: names.get(value, value)
            if key == "$ref" and isinstance(value, str)
            else _renamed(value, names)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [_renamed(item, names) for item in node]
    return node
