"""One description of all services, and the page made of it."""

from __future__ import annotations

from typing import Any

from yuanlian.gateway.docs import render
from yuanlian.gateway.openapi import merge


def _document(path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    reference = {"schema": {"$ref": "#/components/schemas/Page"}}
    operation = {
        "summary": f"Lists {path}",
        "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 200}}],
        "responses": {
            "200": {"description": "Fine", "content": {"application/json": reference}},
            "400": {"description": "No"},
        },
    }
    return {"paths": {path: {"get": operation}}, "components": {"schemas": schemas}}


def _merged() -> dict[str, Any]:
    shared = {"type": "object", "properties": {"id": {"type": "string"}}}
    page_of_classes = {"properties": {"items": {"items": {"$ref": "#/components/schemas/Shared"}}}}
    page_of_users = {"properties": {"users": {"type": "array"}}}
    return merge(
        {
            "tenant-service": _document("/classes", {"Page": page_of_classes, "Shared": shared}),
            "auth-service": _document("/users", {"Page": page_of_users, "Shared": shared}),
        },
        "园联",
        "v1",
    )


def _schema_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    answer = document["paths"][path]["get"]["responses"]["200"]
    reference: str = answer["content"]["application/json"]["schema"]["$ref"]
    schema: dict[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return schema


def test_schemas_of_one_name_belong_each_to_their_service() -> None:
    document = _merged()
    assert set(document["components"]["schemas"]) >= {"tenant-service.Page", "auth-service.Page"}
    assert "items" in _schema_of(document, "/classes")["properties"]
    assert "users" in _schema_of(document, "/users")["properties"]


def test_schema_names_do_not_tell_of_modules_unless_two_would_be_one() -> None:
    schemas: dict[str, Any] = {"Body_a.b.Login_": {}, "a.b.User": {}, "a.c.User": {}}
    document = merge({"s": {"components": {"schemas": schemas}}}, "t", "v1")
    names = {name for name in document["components"]["schemas"] if name.startswith("s.")}
    assert names == {"s.Body_Login", "s.a.b.User", "s.a.c.User"}


def test_every_error_is_described_as_the_envelope() -> None:
    document = _merged()
    refused = document["paths"]["/users"]["get"]["responses"]["400"]
    reference = refused["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    error = document["components"]["schemas"][reference]
    assert set(error["properties"]) == {"success", "code", "message", "error", "meta"}
    assert "details: [{" in render(document)


def test_operations_are_tagged_with_their_service() -> None:
    assert _merged()["paths"]["/users"]["get"]["tags"] == ["auth-service"]


def test_the_page_shows_operations_grouped_with_parameters_and_shapes() -> None:
    page = render(_merged())
    assert page.index('id="tenant-service"') != page.index('id="auth-service"')
    assert "Lists /classes" in page
    assert "integer (≤ 200)" in page
    assert "items?: [{\n    id?: string\n  }]" in page


def test_a_schema_that_contains_itself_comes_to_an_end() -> None:
    tree = {"properties": {"children": {"items": {"$ref": "#/components/schemas/Page"}}}}
    assert "…" in render(merge({"s": _document("/tree", {"Page": tree})}, "t", "v1"))


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = render(_merged())
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
