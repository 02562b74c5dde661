"""The page that shows the API to people: made once from the OpenAPI document, without scripts.

It loads nothing from anywhere, and its policy forbids it to: the one style is allowed by its hash.
"""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment

from dispatcher.http.problem import KINDS

ORIGIN: Final = "https://sms.example.com"


def page(document: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The HTML and the headers that it is served with."""
    here = files(__package__)
    style = here.joinpath("docs.css").read_text()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(shape=shape, kind=kind)
    template = environment.from_string(here.joinpath("docs.html.j2").read_text())
    html = template.render(doc=document, kinds=KINDS, style=style, origin=ORIGIN)
    return html, headers(style)


def headers(style: str) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def response(html: str, with_headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=html.encode(), headers=with_headers)


def shape(schema: Mapping[str, Any]) -> str:
    """The name at the end of a reference."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def kind(schema: Mapping[str, Any]) -> str:
    """A property's type in a word or two."""
    if "$ref" in schema:
        return shape(schema)
    if "anyOf" in schema:
        return " or ".join(kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or schema.get("const", ""))
