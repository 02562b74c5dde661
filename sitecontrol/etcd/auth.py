"""The token that stands for our user name and password: fetched when needed, replaced when refused.

etcd's tokens live in the members' memory: a member that was restarted has forgotten them (and so, after five
idle minutes, has every other), and answers UNAUTHENTICATED. A refused token is forgotten *by name*: of many
calls refused at once, one fetches the next token and the others use it.
"""

import asyncio

import grpc.aio

from sitecontrol.etcd.answers import meaning, spoilt
from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.etcd.endpoints import Endpoint, Endpoints
from sitecontrol.etcd.hedge import first_answer
from sitecontrol.etcd.wire import Rpc, authenticate_request


class Tokens:
    def __init__(self, endpoints: Endpoints, user: str, password: str) -> None:
        self._endpoints = endpoints
        self._request = authenticate_request(user, password)
        self._token: str | None = None
        self._fetching = asyncio.Lock()

    async def current(self, timeout: float) -> str:
        """The token to send. Raises EtcdRefused for a wrong password, EtcdUnknown when nobody answers."""
        try:
            async with asyncio.timeout(timeout), self._fetching:
                if self._token is None:
                    self._token = await first_answer(self._endpoints, self._fetch, timeout=timeout)
                return self._token
        except TimeoutError:
            raise EtcdUnknown("no token in time; nothing was sent") from None

    def forget(self, token: str) -> None:
        """`token` was refused. A newer one, fetched by somebody else meanwhile, is kept."""
        if self._token == token:
            self._token = None

    async def _fetch(self, endpoint: Endpoint, left: float) -> str:
        try:
            answer = await endpoint.rpc[Rpc.AUTHENTICATE](self._request, timeout=left)
        except grpc.aio.AioRpcError as error:
            raise meaning(error, endpoint.url) from error
        except Exception as error:
            raise spoilt(error, endpoint.url) from error
        token: str = answer.token
        if not token:
            raise EtcdUnknown(f"{endpoint.url}: an answer without a token")
        return token
