"""The two clients. Both carry out the conversations of `talk`; they differ only in how they wait."""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Self, TypeVar
from uuid import UUID

import httpx2

from hotsite_client.errors import ApiError, BulkStopped
from hotsite_client.model import Accepted, Message, Page, Preview, Result, SentMessage
from hotsite_client.receiving import Received, addresses, authorization, query
from hotsite_client.retry import Policy
from hotsite_client.talk import Ask, Means, Talk, Talks, Wait

T = TypeVar("T")

LINES_AT_ONCE: Final = 500  # of a bulk, in one request: what a break leaves open
CHARACTERS_AT_ONCE: Final = 1_000_000  # of their texts, sooner: what is held in memory


class _Base:
    def __init__(self, urls: Sequence[str], key: str, policy: Policy, *, allow_http: bool) -> None:
        self._urls = addresses(urls, allow_http=allow_http)
        self._headers = authorization(key)
        self._policy = policy
        self._talks = Talks(Means(sites=self._urls, policy=policy, clock=time.monotonic, dice=random.random))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._urls)})"  # and not the key

    def _request(self, ask: Ask) -> httpx2.Request:
        request = ask.request
        typed = {} if request.content_type is None else {"Content-Type": request.content_type}
        timeout = httpx2.Timeout(ask.silence_s, connect=min(self._policy.connect_s, ask.silence_s))
        return httpx2.Request(
            request.method,
            self._urls[ask.site] + request.path,
            params=request.params,
            content=request.content,
            headers={**self._headers, **typed},
            extensions={"timeout": timeout.as_dict()},
        )


class Client(_Base):
    """For threads; may be shared between them. Close it, or use it in a `with`.

    `urls`: both sites' addresses, the nearest first. `http`: your own httpx2.Client, for a proxy or client
    certificates; it stays yours to close. The system's certificate authorities are trusted, and those of `verify`.
    Raises ValueError for an address or a key that cannot be one. Plain http is refused but for this machine, for it
    shows the key to everybody on the way; `allow_http` allows it.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        *,
        policy: Policy | None = None,
        http: httpx2.Client | None = None,
        verify: ssl.SSLContext | None = None,
        allow_http: bool = False,
    ) -> None:
        super().__init__(urls, key, policy or Policy(), allow_http=allow_http)
        self._own = http is None
        self._http = http or httpx2.Client(verify=True if verify is None else verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._own:
            self._http.close()

    def send(self, message: Message) -> Accepted:
        """Send one text. Raises ApiError, Unreachable (nothing was sent) or OutcomeUnknown; all carry the reference."""
        return self._run(self._talks.send(message))

    def bulk(self, messages: Iterable[Message], *, at_once: int = LINES_AT_ONCE) -> Iterator[Result]:
        """Send many, and tell what became of each, in order. They go out as you iterate, `at_once` in a request.

        Raises ApiError when all is refused (a wrong key), BulkStopped when no site answers any more.
        """
        batch = Batch(at_once)
        for message in messages:
            if batch.add(message):
                yield from batch.checked(self._run(self._talks.bulk(batch.take())))
        if batch.begun:
            yield from batch.checked(self._run(self._talks.bulk(batch.take())))

    def get(self, message_id: UUID | str) -> SentMessage:
        return self._run(self._talks.get(UUID(str(message_id))))

    def find(self, reference: str) -> SentMessage | None:
        """The message with this reference; None when none was accepted (yet: a request may be on its way)."""
        return next(self.messages(reference=reference), None)

    def messages(
        self,
        *,
        reference: str | None = None,
        state: str | None = None,
        to: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[SentMessage]:
        """All that fit, newest first; pages are fetched as you iterate."""
        cursor: str | None = None
        while True:
            page = self.page(reference=reference, state=state, to=to, since=since, cursor=cursor)
            yield from page.messages
            cursor = page.next_cursor
            if cursor is None:
                return

    def page(
        self,
        *,
        reference: str | None = None,
        state: str | None = None,
        to: str | None = None,
        since: datetime | None = None,
        limit: int = 200,
        cursor: str | None = None,
    ) -> Page:
        return self._run(
            self._talks.page(
                query(reference=reference, state=state, to=to, since=since, limit=limit, cursor=cursor)
            )
        )

    def cancel(self, message_id: UUID | str) -> SentMessage:
        """Cancel what has not left. Raises AlreadyLeft when nothing could be canceled."""
        return self._run(self._talks.cancel(UUID(str(message_id))))

    def preview(self, body: str) -> Preview:
        """How a text would be sent; nothing is stored."""
        return self._run(self._talks.preview(body))

    def _run(self, talk: Talk[T]) -> T:
        reply = None
        while True:
            try:
                wanted = talk.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(wanted, Wait):
                time.sleep(wanted.seconds)
                reply = None
            else:
                reply = self._ask(wanted).outcome()

    def _ask(self, ask: Ask) -> Received:
        received = Received(ask)
        try:
            response = self._http.send(self._request(ask), stream=True, follow_redirects=False)
            try:
                received.begin(response)
                for piece in response.iter_bytes():
                    received.add(piece)
            finally:
                response.close()
        except (httpx2.RequestError, TimeoutError) as error:
            received.broke(error)
        return received


class AsyncClient(_Base):
    """For asyncio. As `Client`, with `await`, `async with` and `async for`.

    When you cancel a call yourself its outcome is unknown: give each message a reference of your own, then.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        *,
        policy: Policy | None = None,
        http: httpx2.AsyncClient | None = None,
        verify: ssl.SSLContext | None = None,
        allow_http: bool = False,
    ) -> None:
        super().__init__(urls, key, policy or Policy(), allow_http=allow_http)
        self._own = http is None
        self._http = http or httpx2.AsyncClient(verify=True if verify is None else verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._own:
            await self._http.aclose()

    async def send(self, message: Message) -> Accepted:
        """Send one text. Raises ApiError, Unreachable (nothing was sent) or OutcomeUnknown; all carry the reference."""
        return await self._run(self._talks.send(message))

    async def bulk(
        self, messages: Iterable[Message] | AsyncIterable[Message], *, at_once: int = LINES_AT_ONCE
    ) -> AsyncIterator[Result]:
        """Send many, and tell what became of each, in order. They go out as you iterate, `at_once` in a request.

        Raises ApiError when all is refused (a wrong key), BulkStopped when no site answers any more.
        """
        batch = Batch(at_once)
        async for message in _each(messages):
            if batch.add(message):
                for result in batch.checked(await self._run(self._talks.bulk(batch.take()))):
                    yield result
        if batch.begun:
            for result in batch.checked(await self._run(self._talks.bulk(batch.take()))):
                yield result

    async def get(self, message_id: UUID | str) -> SentMessage:
        return await self._run(self._talks.get(UUID(str(message_id))))

    async def find(self, reference: str) -> SentMessage | None:
        """The message with this reference; None when none was accepted (yet: a request may be on its way)."""
        return await anext(self.messages(reference=reference), None)

    async def messages(
        self,
        *,
        reference: str | None = None,
        state: str | None = None,
        to: str | None = None,
        since: datetime | None = None,
    ) -> AsyncIterator[SentMessage]:
        """All that fit, newest first; pages are fetched as you iterate."""
        cursor: str | None = None
        while True:
            page = await self.page(reference=reference, state=state, to=to, since=since, cursor=cursor)
            for message in page.messages:
                yield message
            cursor = page.next_cursor
            if cursor is None:
                return

    async def page(
        self,
        *,
        reference: str | None = None,
        state: str | None = None,
        to: str | None = None,
        since: datetime | None = None,
        limit: int = 200,
        cursor: str | None = None,
    ) -> Page:
        return await self._run(
            self._talks.page(
                query(reference=reference, state=state, to=to, since=since, limit=limit, cursor=cursor)
            )
        )

    async def cancel(self, message_id: UUID | str) -> SentMessage:
        """Cancel what has not left. Raises AlreadyLeft when nothing could be canceled."""
        return await self._run(self._talks.cancel(UUID(str(message_id))))

    async def preview(self, body: str) -> Preview:
        """How a text would be sent; nothing is stored."""
        return await self._run(self._talks.preview(body))

    async def _run(self, talk: Talk[T]) -> T:
        reply = None
        while True:
            try:
                wanted = talk.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(wanted, Wait):
                await asyncio.sleep(wanted.seconds)
                reply = None
            else:
                reply = (await self._ask(wanted)).outcome()

    async def _ask(self, ask: Ask) -> Received:
        received = Received(ask)
        try:
            async with asyncio.timeout(ask.within_s):
                response = await self._http.send(self._request(ask), stream=True, follow_redirects=False)
                try:
                    received.begin(response)
                    async for piece in response.aiter_bytes():
                        received.add(piece)
                finally:
                    await response.aclose()
        except (httpx2.RequestError, TimeoutError) as error:
            received.broke(error)
        return received


class Batch:
    """Numbers the messages of a bulk, gives each its reference, and gathers them for a request."""

    def __init__(self, at_once: int) -> None:
        if at_once < 1:
            raise ValueError(f"at_once = {at_once}: must be at least 1")
        self._at_once = at_once
        self._lines = self._characters = 0
        self.begun: list[tuple[int, Message]] = []

    def add(self, message: Message) -> bool:
        """Whether they are as many as go together."""
        self._lines += 1
        self._characters += len(message.body)
        self.begun.append((self._lines, message.with_reference()))
        return len(self.begun) >= self._at_once or self._characters >= CHARACTERS_AT_ONCE

    def take(self) -> list[tuple[int, Message]]:
        taken, self.begun, self._characters = self.begun, [], 0
        return taken

    def checked(self, results: list[Result]) -> Iterator[Result]:
        """The same; raises BulkStopped after the last of them if no site had a word for any."""
        yield from results
        last = results[-1]
        if last.error is not None and not any(
            result.accepted is not None or isinstance(result.error, ApiError) for result in results
        ):
            raise BulkStopped(last.line, str(last.error)) from last.error


async def _each(messages: Iterable[Message] | AsyncIterable[Message]) -> AsyncIterator[Message]:
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield message
    else:
        for message in messages:
            yield message
