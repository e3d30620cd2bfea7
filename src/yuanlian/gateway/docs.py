"""``/docs``: the API's description as one page, without scripts or anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Json = Mapping[str, Any]

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--get:#2563eb;--post:#15803d;--put:#b45309;
--patch:#b45309;--delete:#b91c1c}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2rem 1rem 4rem;line-height:1.55;
font-family:system-ui,"PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif}
h1{margin:0 0 .25rem;font-size:1.6rem}h2{margin:2.5rem 0 .75rem;font-size:1.2rem}
h3{margin:1rem 0 .25rem;font-size:.95rem}
nav a{margin-right:1rem}a{color:var(--get)}
details{border:1px solid var(--line);border-radius:.5rem;margin:.4rem 0;overflow:hidden}
summary{display:flex;flex-wrap:wrap;gap:.25rem .75rem;align-items:baseline;
padding:.5rem .75rem;cursor:pointer}
summary:hover{background:var(--soft)}
.in{padding:0 .75rem .75rem;border-top:1px solid var(--line)}
code,pre{font-family:ui-monospace,"SF Mono",Consolas,monospace;font-size:.85rem}
pre{margin:.25rem 0;padding:.6rem .75rem;background:var(--soft);border-radius:.4rem;overflow-x:auto}
b.m{min-width:4rem;color:#fff;text-align:center;border-radius:.3rem;padding:0 .4rem;
font-size:.75rem;line-height:1.5rem}
.get{background:var(--get)}.post{background:var(--post)}.put{background:var(--put)}
.patch{background:var(--patch)}.delete{background:var(--delete)}
.note{opacity:.75}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.25rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
"""
_METHODS = ("get", "post", "put", "patch", "delete")
_DEEPEST = 6

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


def render(document: Json) -> str:
    """The page of an OpenAPI 3.1 document, operations grouped by their first tag. Everything in the
    document is text to us, never markup."""
    info = document.get("info") or {}
    title = escape(str(info.get("title", "API")))
    groups = _groups(document)
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in groups)
    sections = "".join(
        f'<h2 id="{escape(name)}">{escape(name)}</h2>{"".join(operations)}'
        for name, operations in groups.items()
    )
    return (
        f'<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><p class="note">{escape(str(info.get("version", "")))} · '
        f'<a href="/api/openapi.json">openapi.json</a></p><nav>{links}</nav>{sections}</body></html>'
    )


def _groups(document: Json) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path, item in sorted((document.get("paths") or {}).items()):
        for method in _METHODS:
            operation = item.get(method)
            if operation:
                tag = str((operation.get("tags") or ["api"])[0])
                groups.setdefault(tag, []).append(_operation(document, path, method, operation))
    return groups


def _operation(document: Json, path: str, method: str, operation: Json) -> str:
    inside = "".join(
        (
            _paragraph(operation.get("description")),
            _parameters(operation.get("parameters") or []),
            _request(document, operation.get("requestBody") or {}),
            _responses(document, operation.get("responses") or {}),
        )
    )
    summary = escape(str(operation.get("summary") or ""))
    return (
        f'<details><summary><b class="m {method}">{method.upper()}</b><code>{escape(path)}</code>'
        f'<span class="note">{summary}</span></summary><div class="in">{inside}</div></details>'
    )


def _paragraph(text: object) -> str:
    return f"<p>{escape(str(text))}</p>" if text else ""


def _parameters(parameters: list[Json]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(str(p.get('name', '')))}</code></td><td>{escape(str(p.get('in', '')))}"
        f"{' · 必填 required' if p.get('required') else ''}</td>"
        f"<td><code>{escape(_type_name(p.get('schema') or {}))}</code></td>"
        f"<td>{escape(str(p.get('description') or ''))}</td></tr>"
        for p in parameters
    )
    return f"<h3>参数 Parameters</h3><table>{rows}</table>" if rows else ""


def _request(document: Json, body: Json) -> str:
    schemas = "".join(_content(document, body))
    return f"<h3>请求 Request</h3>{schemas}" if schemas else ""


def _responses(document: Json, responses: Json) -> str:
    answers = "".join(
        f"<p><code>{escape(str(status))}</code> {escape(str(response.get('description') or ''))}</p>"
        + "".join(_content(document, response))
        for status, response in sorted(responses.items())
    )
    return f"<h3>响应 Responses</h3>{answers}" if answers else ""


def _content(document: Json, holder: Json) -> Iterator[str]:
    for media, content in (holder.get("content") or {}).items():
        shape = _shape(document, content.get("schema") or {}, 0)
        yield f'<p class="note">{escape(str(media))}</p><pre>{escape(shape)}</pre>'


def _shape(document: Json, schema: Json, depth: int) -> str:
    """A schema as an indented sketch of the JSON it describes."""
    schema = _resolved(document, schema)
    if depth >= _DEEPEST:
        return "…"
    alternatives = schema.get("oneOf") or schema.get("anyOf") or ()
    if alternatives:
        return " | ".join(_shape(document, alternative, depth) for alternative in alternatives)
    properties = schema.get("properties")
    if properties:
        required = schema.get("required") or ()
        indent = "  " * (depth + 1)
        lines = [
            f"{indent}{name}{'' if name in required else '?'}: {_shape(document, value, depth + 1)}"
            for name, value in properties.items()
        ]
        return "{\n" + "\n".join(lines) + "\n" + "  " * depth + "}"
    if "items" in schema:
        return f"[{_shape(document, schema['items'], depth)}]"
    return _type_name(schema)


def _resolved(document: Json, schema: Json) -> Json:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    known = (document.get("components") or {}).get("schemas") or {}
    resolved: Json = known.get(reference.rpartition("/")[2]) or {"type": reference}
    return resolved


def _type_name(schema: Json) -> str:
    if "enum" in schema:
        return " | ".join(repr(value) if isinstance(value, str) else str(value) for value in schema["enum"])
    alternatives = schema.get("oneOf") or schema.get("anyOf") or ()
    if alternatives:
        return " | ".join(_type_name(alternative) for alternative in alternatives)
    kind = schema.get("type", "any")
    name = " | ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    limits = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "≥"),
            ("maximum", "≤"),
            ("minLength", "length ≥"),
            ("maxLength", "length ≤"),
        )
        if key in schema
    ]
    return f"{name} ({', '.join(limits)})" if limits else name
