"""The number of the request that is being served. aiohttp serves each request in a task of its own."""

from contextvars import ContextVar
from typing import Final
from uuid import UUID

HEADER: Final = "X-Request-Id"
REQUEST_ID: Final[ContextVar[UUID]] = ContextVar("request_id")
