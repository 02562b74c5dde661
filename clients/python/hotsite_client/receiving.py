"""What both clients need of HTTP: addresses and keys that can be ones, and an answer as far as it came."""

import ipaddress
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Final

import httpx2

from hotsite_client.hearing import Again, Answer
from hotsite_client.talk import Ask

LONGEST_ANSWER: Final = 64_000_000  # bytes; a page or a bulk's results have a few hundred thousand
LONGEST_KEY: Final = 200

try:
    _VERSION = version("hotsite-client")
except PackageNotFoundError:  # run from its source
    _VERSION = "0"


def addresses(urls: Sequence[str], *, allow_http: bool) -> tuple[str, ...]:
    """Without a slash at the end. Raises ValueError."""
    if isinstance(urls, str) or not urls:
        raise ValueError(
            'urls: give a list of both sites\' addresses, such as ["https://columbus.example", …]'
        )
    return tuple(dict.fromkeys(_address(url, allow_http=allow_http) for url in urls))


def _address(address: str, *, allow_http: bool) -> str:
    try:
        url = httpx2.URL(address)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ValueError(f"{address!r} is no address: {error}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"{address!r} is no address such as https://columbus.example")
    if url.userinfo or url.query or url.fragment:
        raise ValueError(f"{url.host}: an address has no user, query or fragment; the key is given apart")
    if url.scheme == "http" and not allow_http and not _is_here(url.host):
        raise ValueError(
            f"{address}: plain http shows the key to everybody on the way; use https, or allow it (allow_http)"
        )
    return str(url).rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def authorization(key: str) -> dict[str, str]:
    """The headers of every request. Raises ValueError, which does not show the key."""
    key = key.strip()
    if not key or len(key) > LONGEST_KEY or not all("!" <= char <= "~" for char in key):
        raise ValueError(f"the key must be 1 to {LONGEST_KEY} printable ASCII characters without spaces")
    return {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json, application/x-ndjson, application/problem+json",
        "Accept-Encoding": "identity",
        "User-Agent": f"hotsite-client/{_VERSION}",
    }


def query(
    *,
    reference: str | None,
    state: str | None,
    to: str | None,
    since: datetime | None,
    limit: int,
    cursor: str | None,
) -> Mapping[str, str]:
    """Raises ValueError for a time without a zone."""
    if since is not None and since.tzinfo is None:
        raise ValueError(f"since = {since} has no time zone; for example datetime.now(UTC)")
    asked = {
        "reference": reference,
        "state": state,
        "to": to,
        "since": None if since is None else since.isoformat(),
        "limit": str(limit),
        "cursor": cursor,
    }
    return {name: value for name, value in asked.items() if value is not None}


class Received:
    """An answer while it comes in."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._ends_at = time.monotonic() + ask.within_s
        self._response: httpx2.Response | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: Exception | None = None

    def begin(self, response: httpx2.Response) -> None:
        self._response = response

    def add(self, piece: bytes) -> None:
        """Raises TimeoutError when it has no end, or none in time."""
        self._size += len(piece)
        if self._size > LONGEST_ANSWER or time.monotonic() > self._ends_at:
            raise TimeoutError
        self._pieces.append(piece)

    def broke(self, error: Exception) -> None:
        self._error = error

    def outcome(self) -> Answer | Again:
        why = None if self._error is None else self._words(self._error)
        if self._response is not None:
            headers = {name.lower(): value for name, value in self._response.headers.items()}
            status = self._response.status_code
            return Answer(status=status, headers=headers, body=b"".join(self._pieces), broken=why)
        unsent = isinstance(
            self._error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError
        )
        again_s = inf if _is_of_certificate(self._error) else 0.0
        return Again(why=why or "no answer", unsent=unsent, retry_after_s=again_s)

    def _words(self, error: Exception) -> str:
        if isinstance(error, httpx2.ConnectTimeout):
            return "no connection in time"
        if isinstance(error, httpx2.TimeoutException):
            return f"nothing came for {self._ask.silence_s:.3g} s"
        if isinstance(error, TimeoutError):
            return "no answer in time" if self._response is None else "it did not end in time"
        return str(error) or type(error).__name__


def _is_of_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
