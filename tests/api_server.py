"""The HTTP API on a real socket, over a store in memory, under a leadership that a test holds in its hand."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from aiohttp import web

from dispatcher.http.app import create_app
from dispatcher.http.server import serve
from dispatcher.leadership import Lane, LeadershipState, Unavailable
from dispatcher.memory_store import MemoryStore
from dispatcher.model import ApiKey, MessageClass, OnDoubt, Program
from dispatcher.store import Store
from replication.errors import CommitUnknown
from sitecontrol.clock import SystemClock
from sitecontrol.settings import Settings

T = TypeVar("T")

TERM = 7
KEY = "hs_columbus-electric"
OTHER_KEY = "hs_denver-water"
NUMBER = "+16145550123"


class HandHeldLeadership:
    """Runs work on `store` at once, unless the test closed the gate or told what goes wrong next."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.gate = asyncio.Event()
        self.gate.set()
        self.live_site = "columbus"
        self.unknown_next = 0  # so many commits get through, and nobody hears of it
        self.lanes: list[Lane] = []
        self.held = asyncio.Event()  # some work stands before the closed gate
        self.looked = asyncio.Event()  # somebody asked who leads

    @property
    def state(self) -> LeadershipState:
        self.looked.set()
        return LeadershipState(
            leader_node=f"{self.live_site}-a",
            leader_site=self.live_site,
            term=TERM,
            open=self.gate.is_set(),
            may_send=self.gate.is_set(),
            holding=0,
            durability=None,
            rule="test",
            sentence="A test holds the gate.",
        )

    async def run(
        self,
        op: Callable[[Store, int], Awaitable[T]],
        *,
        lane: Lane = Lane.INTAKE,
        hold_for: float | None = None,
    ) -> T:
        self.lanes.append(lane)
        while True:
            if not self.gate.is_set():
                self.held.set()
                try:
                    await asyncio.wait_for(self.gate.wait(), hold_for)
                except TimeoutError:
                    raise Unavailable(1.0, "A test holds the gate.") from None
            try:
                return await self._once(op, lane)
            except CommitUnknown:
                continue

    async def _once(self, op: Callable[[Store, int], Awaitable[T]], lane: Lane) -> T:
        result = await op(self.store, TERM)
        if lane is Lane.INTAKE and self.unknown_next:
            self.unknown_next -= 1
            raise CommitUnknown("the connection broke")
        return result


def program(number: int = 1, account: int = 1, name: str = "outages", *, enabled: bool = True) -> Program:
    return Program(
        id=number,
        account_id=account,
        name=name,
        source="77001",
        on_doubt=OnDoubt.HOLD,
        message_class=MessageClass.SERVICE,
        enabled=enabled,
    )


def key(secret: str = KEY, number: int = 1, account: int = 1, **changed: object) -> ApiKey:
    values: dict[str, object] = {"expires_at": None, "revoked": False, **changed}
    digest = hashlib.sha256(secret.encode()).digest()
    return ApiKey(id=number, account_id=account, prefix=secret[:6], secret_hash=digest, **values)  # type: ignore[arg-type] # two fields by name


def furnished_store() -> MemoryStore:
    """Two accounts, a key and a program each, and a program that is switched off."""
    store = MemoryStore(term=TERM)
    store.add_program(program())
    store.add_program(program(2, 2, "leaks"))
    store.add_program(program(3, 1, "winter", enabled=False))
    store.add_key(key())
    store.add_key(key(OTHER_KEY, 2, 2))
    return store


def settings(
    *, environment: str = "lab", carriers: Sequence[dict[str, object]] = (), **dispatcher: object
) -> Settings:
    consent = "assumed" if environment == "lab" else "required"
    return Settings.model_validate(
        {
            "site": {
                "name": "columbus",
                "environment": environment,
                "state_dir": "/nowhere",
                "secrets_dir": "/nowhere",
            },
            "place": [{"name": "columbus"}, {"name": "denver"}],
            "etcd": {"endpoints": ["http://127.0.0.1:1"]},
            "dispatcher": {"consent": consent, "hold_for": 5, **dispatcher},
            "carrier": list(carriers),
        }
    )


@dataclass(frozen=True, kw_only=True)
class Api:
    """A served application, and a client that sends the first account's key."""

    app: web.Application
    port: int
    client: aiohttp.ClientSession
    store: Store  # a MemoryStore, unless the test brought another
    leadership: HandHeldLeadership

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(
    configured: Settings | None = None, store: Store | None = None, *, closed: bool = False
) -> AsyncIterator[Api]:
    store = store or furnished_store()
    leadership = HandHeldLeadership(store)
    if closed:
        leadership.gate.clear()
    app = create_app(leadership, configured or settings(), SystemClock())
    runner = await serve(app, "127.0.0.1", 0)
    try:
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}
        ) as client:
            yield Api(app=app, port=port, client=client, store=store, leadership=leadership)
    finally:
        leadership.gate.set()
        await runner.cleanup()


def text(**changed: object) -> dict[str, object]:
    return {"program": "outages", "to": NUMBER, "body": "Power is back on Main St.", **changed}
