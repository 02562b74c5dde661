"""Lets a request in by its key, or says why not."""

from typing import Final

from aiohttp import web

from dispatcher.http.directory import Directory
from dispatcher.http.doorkeeper import Doorkeeper
from dispatcher.http.problem import TOO_MANY, UNAUTHORIZED, Problem
from dispatcher.model import ApiKey
from sitecontrol.clock import Clock

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="hotsite"'}
LONGEST_KEY: Final = 200


class Access:
    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._doorkeeper = Doorkeeper()

    async def caller(self, request: web.Request) -> ApiKey:
        """The key that the request comes with. Raises Problem, or Unavailable when it cannot be looked up."""
        secret = bearer(request.headers.get("Authorization"))
        known = self._directory.key(secret)
        return known if known is not None else await self._look_up(secret, request.remote or "")

    async def _look_up(self, secret: str, source: str) -> ApiKey:
        """A key that the picture in memory does not have: it may be newer than the picture, or wrong."""
        wait_s = self._doorkeeper.wait_s(source, self._clock.now())
        if wait_s > 0:
            raise Problem(
                kind=TOO_MANY,
                detail="too many requests with a wrong key came from this address",
                retry_after_s=wait_s,
                close=True,
            )
        await self._directory.refreshed()
        known = self._directory.key(secret)
        if known is None:
            self._doorkeeper.failed(source, self._clock.now())
            raise Problem(
                kind=UNAUTHORIZED,
                detail="this key is not known, has expired, or was revoked",
                headers={"WWW-Authenticate": f'{CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'},
                close=True,
            )
        return known


def bearer(header: str | None) -> str:
    """The key in an Authorization header. Raises Problem when there is none."""
    scheme, _, secret = (header or "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret or len(secret) > LONGEST_KEY:
        raise Problem(
            kind=UNAUTHORIZED,
            detail="send the API key as `Authorization: Bearer KEY`",
            headers=CHALLENGE,
            close=True,
        )
    return secret
