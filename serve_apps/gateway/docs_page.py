"""The OpenAPI document as one static HTML page: no script, no foreign host, nothing to install.

Invariant: all text is escaped, and the page's content policy allows nothing but its own style.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #d8dee6}
details{border:1px solid #d8dee6;border-radius:6px;margin:.4rem 0;padding:.3rem .7rem}summary{cursor:pointer}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f6f9;padding:.6rem;overflow:auto;border-radius:4px}
.m{display:inline-block;min-width:3.2rem;font-weight:600}.get{color:#0a6b3d}.post{color:#8a4b00}
table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#d7dde6}pre{background:#1d232c}.get{color:#6fd3a0}.post{color:#f0b070}}
"""
_METHODS = ("get", "post", "put", "delete")


def docs_page(document: Mapping[str, Any]) -> str:
    """`document`: OpenAPI 3.1 with local references."""
    info = document["info"]
    title = escape(info["title"])
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title} <small>{escape(info['version'])}</small></h1><p>{escape(info.get('description', ''))}</p>",
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for tag, operations in _by_tag(document).items():
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += [_operation(path, method, operation) for path, method, operation in operations]
    parts.append("<h2>bodies</h2>")
    parts += [_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    return "".join([*parts, "</body></html>"])


def _by_tag(document: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    tags: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                tags.setdefault(operations[method]["tags"][0], []).append((path, method, operations[method]))
    return tags


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(answer['description'])}</td>"
        f"<td>{_kinds(answer.get('content', {}))}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    asked = f"<p>takes {_kinds(body)}</p>" if body else ""
    return (
        f'<details><summary><span class="m {method}">{method.upper()}</span> <code>{escape(path)}</code> — '
        f"{escape(operation['summary'])}</summary>{asked}<table>{rows}</table></details>"
    )


def _kinds(content: Mapping[str, Any]) -> str:
    return ", ".join(f"<code>{escape(kind)}</code> {_named(media['schema'])}".strip() for kind, media in content.items())


def _named(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if schema.get("type") == "array":
        return f"list of {_named(schema['items']) or 'anything'}"
    if "oneOf" in schema:
        return " or ".join(_named(one) for one in schema["oneOf"])
    kind = schema.get("type", "")
    return escape(" or ".join(kind) if isinstance(kind, list) else kind)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    rows = "".join(_rows(schema)) or f"<tr><td>{_named(schema)}</td></tr>"
    return f'<details id="{escape(name)}" open><summary><code>{escape(name)}</code></summary><table>{rows}</table></details>'


def _rows(schema: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    for name, kind in schema.get("properties", {}).items():
        choices = "".join(f" <code>{escape(str(choice))}</code>" for choice in kind.get("enum", ()))
        must = "required" if name in required else ""
        yield f"<tr><td><code>{escape(name)}</code></td><td>{_named(kind)}{choices}</td><td>{must}</td></tr>"
