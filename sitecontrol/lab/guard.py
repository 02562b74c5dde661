"""Who may ask the lab's own processes to act: whoever has the lab's token. They listen on 127.0.0.1 only."""

import hmac

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


def requiring(token: str) -> Middleware:
    """Answers 401 to every request without `Authorization: Bearer <token>`."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        # Bytes of a header that are no text come as surrogates: a wrong token, not a defect.
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode()):
            raise web.HTTPUnauthorized(text="the lab's token is missing or wrong\n")
        return await handler(request)

    return guard
