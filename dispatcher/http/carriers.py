"""What callers are told of carriers: their prices, by which of them a text would go, and that none may carry it.

A text that by the settings no carrier may carry is refused before it is accepted: at the live site, whose carriers
would have to carry it. The other site knows its own carriers and not those; it accepts, and the text waits if need be.
"""

from collections.abc import Sequence
from typing import Any

from dispatcher.engine.router import Router
from dispatcher.engine.routing import Reason
from dispatcher.http.problem import FieldError, shorten
from dispatcher.intake import LeadershipLike
from dispatcher.model import MessageClass, Program
from sitecontrol.settings_carriers import Carrier

OF_THE_NUMBER = frozenset({Reason.PREFIX, Reason.REFUSED_PREFIX})


class Carriers:
    def __init__(self, router: Router, leadership: LeadershipLike, site: str) -> None:
        self._router = router
        self._leadership = leadership
        self._site = site

    @property
    def all(self) -> Sequence[Carrier]:
        return list(self._router.table.carriers.values())

    def route(self, program: Program, to: str, message_class: MessageClass) -> list[dict[str, Any]]:
        """As this dispatcher's links are now: the likeliest carrier first."""
        return [
            {
                "carrier": route.carrier,
                "may": route.may,
                "reason": route.reason.name.lower(),
                "detail": route.reason.value,
            }
            for route in self._router.routes(program.source, program.name, to, message_class)
        ]

    def fault(self, program: Program, to: str) -> FieldError | None:
        """Why no carrier may ever carry this text, if that is so and this site is the one that sends it."""
        table = self._router.table
        if not table.carriers or table.plain or self._leadership.state.leader_site != self._site:
            return None
        lane = table.lane(program.source, program.name, to)
        if lane.carriers:
            return None
        about_number = any(reason in OF_THE_NUMBER for _, reason in lane.excluded)
        told = "; ".join(f"{name}: {reason.value}" for name, reason in lane.excluded)
        return FieldError(
            field="to" if about_number else "program",
            message=f"no carrier carries this text: {told}",
            value=shorten(to if about_number else program.name),
        )
