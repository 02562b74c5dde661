"""The links of all carriers, and how they are exchanged while texts are sent.

A link that is not wanted any more is written to no longer, and its last answers are waited for, at most as long as any
answer is (`response_timeout`): then each text on it is answered or in doubt. Only then is it unbound; and only then are
the new links of a carrier bound that has changed, for a carrier allows so many binds and no more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from dispatcher.engine.changes import Change
from dispatcher.owned import Tasks, together
from dispatcher.smpp.link import Link
from dispatcher.smpp.pdu import BindMode
from sitecontrol.settings_carriers import Binding, Carrier

# What the links of one bind are called after its number, and how each is bound.
MODES = {
    Binding.TRANSCEIVER: (("", BindMode.TRANSCEIVER),),
    Binding.PAIR: (("-tx", BindMode.TRANSMITTER), ("-rx", BindMode.RECEIVER)),
}

Pair = tuple[Carrier, Link]
Make = Callable[[Carrier, str, BindMode], Link]


class Links:
    def __init__(self, carriers: Sequence[Carrier], make: Make) -> None:
        """Raises what `make` raises."""
        self._make = make
        self.carriers = tuple(carriers)
        self._of = {carrier.name: self._made(carrier) for carrier in carriers}
        self._draining: set[Link] = set()
        self._watched: dict[Link, asyncio.Task[None]] = {}
        self.tasks = Tasks("links")  # each waits for a link that ends by a defect

    @property
    def all(self) -> list[Pair]:
        """Those of the carriers as they are now."""
        return [(carrier, link) for carrier in self.carriers for link in self._of[carrier.name]]

    @property
    def sending(self) -> list[Pair]:
        return [(carrier, link) for carrier, link in self.all if link.sends]

    @property
    def draining(self) -> list[str]:
        """The names of those whose last answers are waited for."""
        return sorted(link.name for link in self._draining)

    def _made(self, carrier: Carrier) -> list[Link]:
        return [
            self._make(carrier, f"{carrier.name}-{number}{suffix}", mode)
            for number in range(1, carrier.binds + 1)
            for suffix, mode in MODES[carrier.bind_as]
        ]

    async def start(self) -> None:
        await self._begin(link for _, link in self.all)

    async def _begin(self, links: Iterable[Link]) -> None:
        for link in links:
            await link.start()
            self._watched[link] = self.tasks.spawn(link.ended(), link.name)

    async def change(
        self, carriers: Sequence[Carrier], change: Change, send_over: Callable[[list[Pair]], Awaitable[None]]
    ) -> None:
        """`send_over` is told which links may be written to from then on. Returns when those that went are unbound.

        Raises what making a link raises, and has changed nothing then.
        """
        named = {carrier.name: carrier for carrier in carriers}
        before = {carrier.name: carrier for carrier in self.carriers}
        made = {name: self._made(named[name]) for name in change.bound}
        going = {name: self._of[name] for name in change.drained}
        stays = {name: links for name, links in self._of.items() if name not in going}
        self.carriers = tuple(carriers)
        self._of = {carrier.name: stays.get(carrier.name, []) for carrier in carriers}
        self._of.update({name: made[name] for name in change.added})
        self._draining.update(link for links in going.values() for link in links)
        for name in change.changed:
            for link in self._of[name]:
                link.retune(named[name].rate)
        await send_over(self.sending)
        await self._begin(link for name in change.added for link in made[name])
        await together(self._drain(links, before[name].response_timeout) for name, links in going.items())
        if change.rebound:
            self._of.update({name: made[name] for name in change.rebound})
            await self._begin(link for name in change.rebound for link in made[name])
            await send_over(self.sending)

    async def _drain(self, links: Sequence[Link], within_s: float) -> None:
        await self.tasks.dismiss(*(self._watched.pop(link) for link in links if link in self._watched))
        await together(link.stop(drain=within_s) for link in links)
        self._draining.difference_update(links)

    async def stop(self, within_s: float) -> None:
        """Unbind all. What is still being drained is cut: its answers have been waited for with the others'."""
        await self.tasks.stop()
        for link in self._draining:
            link.abort("we ended the session")
        await together(link.stop(drain=within_s) for _, link in self.all)
