"""The endpoints of one etcd cluster: a channel to each, always connected, and which of them is asked first.

All channels are kept up (their state is followed by a task each), so that moving to the next endpoint costs
no connection set-up, and so that a call which writes is only ever started on a channel that is connected:
what could not be sent was then not sent. One endpoint is *current*; `leave` moves on when it disappoints.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.etcd.wire import Rpc, stubs, watch_stub

DEFAULT_PORT = 2379

# Milliseconds and bytes. The names are gRPC's; those that matter were tried on a stopped and on a restarted
# member.
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),  # gRPC's own default grows to 120 s
    # Despite its name this bounds one attempt to connect; a line of 500 ms needs three round trips for TLS.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # etcd answers pings that come faster than every 5 s, or without a call, with GOAWAY "too_many_pings".
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.http2.ping_timeout_ms", 2_000),  # keepalive_timeout_ms has no effect
    ("grpc.keepalive_permit_without_calls", 0),
    (
        "grpc.max_receive_message_length",
        64 << 20,
    ),  # a reading of everything after a compaction comes in one piece
    ("grpc.enable_http_proxy", 0),  # a proxy meant for the web is not on the way to etcd
    ("grpc.use_local_subchannel_pool", 1),  # another client's backoff is not ours
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Endpoint:
    """One member as reached from here."""

    url: str
    channel: grpc.aio.Channel
    rpc: dict[Rpc, Any]
    watch: Any

    @property
    def connected(self) -> bool:
        """Whether a call started now goes out on a connection that stands, as far as anyone here knows."""
        try:
            return self.channel.get_state() is grpc.ChannelConnectivity.READY
        except grpc.aio.UsageError:  # closed
            return False


def open_endpoint(url: str, credentials: grpc.ChannelCredentials | None) -> Endpoint:
    """A channel to `url`; `credentials` are used for https, a http endpoint is spoken to in the clear."""
    parts = urlsplit(url)
    target = parts.netloc if parts.port else f"{parts.netloc}:{DEFAULT_PORT}"
    if parts.scheme == "https":
        channel = grpc.aio.secure_channel(
            target, credentials or grpc.ssl_channel_credentials(), CHANNEL_OPTIONS
        )
    else:
        channel = grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
    return Endpoint(url=url, channel=channel, rpc=stubs(channel), watch=watch_stub(channel))


class Endpoints:
    """To be created inside a running event loop, and closed."""

    def __init__(self, urls: Sequence[str], credentials: grpc.ChannelCredentials | None) -> None:
        self.all = tuple(open_endpoint(url, credentials) for url in urls)
        self.closed = False
        self._current = 0
        self._changed = asyncio.Condition()
        self._followers = [asyncio.create_task(self._follow(endpoint)) for endpoint in self.all]

    def in_order(self) -> list[Endpoint]:
        """All, in the order in which to ask them: the current one first, those without a connection last."""
        turned = self.all[self._current :] + self.all[: self._current]
        return sorted(turned, key=lambda endpoint: not endpoint.connected)

    async def first_connected(self, within: float | None) -> Endpoint:
        """The endpoint to ask, waited for if none is connected. Raises EtcdUnknown: nothing was sent."""
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: self.closed or self.in_order()[0].connected)
        except TimeoutError:
            urls = ", ".join(endpoint.url for endpoint in self.all)
            raise EtcdUnknown(f"no connection to any of {urls}; nothing was sent") from None
        self.check_open()
        return self.in_order()[0]

    def check_open(self) -> None:
        if self.closed:
            raise EtcdUnknown("this etcd client is closed; nothing was sent")

    def leave(self, endpoint: Endpoint) -> None:
        """`endpoint` did not serve: ask the next one first from now on, unless somebody has moved already."""
        if self.all[self._current] is endpoint:
            self._current = (self._current + 1) % len(self.all)

    def prefer(self, endpoint: Endpoint) -> None:
        """`endpoint` answered sooner than the current one."""
        self._current = self.all.index(endpoint)

    async def aclose(self) -> None:
        """Close every channel; calls under way end as unknown."""
        if self.closed:
            return
        self.closed = True
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        for endpoint in self.all:
            await endpoint.channel.close(None)
        async with self._changed:
            self._changed.notify_all()

    async def _follow(self, endpoint: Endpoint) -> None:
        """Keep the channel connecting (an idle one would not), and tell who waits for it, until closed."""
        while not self.closed:
            state = endpoint.channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                async with self._changed:
                    self._changed.notify_all()
            await endpoint.channel.wait_for_state_change(state)
