"""What came into doubt: which texts nobody knows of whether they left, by the term in which they were claimed."""

import re

from aiohttp import web

from dispatcher.http import answers, checking
from dispatcher.http.access import Access
from dispatcher.http.problem import FieldError, invalid, shorten
from dispatcher.http.schemas import DoubtsQuery
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane
from dispatcher.model import DoubtPage
from dispatcher.store import Store

_CURSOR = re.compile(r"[0-9]{1,18}")


class Doubts:
    def __init__(self, *, leadership: LeadershipLike, access: Access) -> None:
        self._leadership = leadership
        self._access = access

    async def list(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        query = checking.read_query(DoubtsQuery, request.query.items())
        after = 0 if query.cursor is None else position(query.cursor)

        async def op(store: Store, term: int) -> DoubtPage:
            return await store.doubts(
                term, key.account_id, of_term=query.term, after=after, limit=query.limit
            )

        page = await self._leadership.run(op, lane=Lane.READ)
        return answers.json_response(answers.doubts(query.term, page))


def position(cursor: str) -> int:
    if not _CURSOR.fullmatch(cursor):
        raise invalid(
            FieldError(
                field="cursor",
                message="is not one that was given out here; send the `next_cursor` of the page before, or none",
                value=shorten(cursor),
            )
        )
    return int(cursor)
