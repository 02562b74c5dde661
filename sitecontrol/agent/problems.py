"""How the agent's API tells of what went wrong: RFC 9457."""

from typing import Any

from aiohttp import web


def problem(status: int, title: str, detail: str, **more: Any) -> web.Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return web.json_response(body, status=status, content_type="application/problem+json")
