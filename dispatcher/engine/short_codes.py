"""How fast texts of one short code may go, over all links of this dispatcher to a carrier.

- Each short code with a rate (`Carrier.rate_of`) has a token bucket per segment of its own, beside those of the links:
  a segment is written when both have room. What has to wait lets texts of other short codes pass, never those of
  its own.
- What is claimed must be written before its claim ends, and a queue of one slow short code would fill every claim while
  others wait behind it. So of what was just claimed only as much is kept as its rate allows in half a claim's length;
  the rest goes back with the time at which its turn will be (`admit`). Emergencies are always kept.

Pure: the caller brings the time.
"""

from collections.abc import Sequence
from math import inf
from typing import Final

from dispatcher.engine.backlog import Claimed
from dispatcher.model import MessageClass
from dispatcher.smpp.pace import Pace
from sitecontrol.settings_carriers import Carrier

LATEST_TURN_S: Final = 3_600.0  # nothing is sent away for longer: rates and carriers may change

Key = tuple[str, str]  # carrier, short code


class Turn:
    """What may be written over one link now. `may` counts, so each item is asked for once."""

    def __init__(self, paces: dict[Key, Pace], carrier: Carrier, now: float) -> None:
        self._paces = paces
        self._carrier = carrier
        self._now = now
        self._left: dict[str, int] = {}
        self.wait_s = inf  # until one that was held back may go; inf when none was

    def may(self, item: Claimed) -> bool:
        source = item.claim.source
        rate = self._carrier.rate_of(source)
        if rate is None:
            return True
        key = (self._carrier.name, source)
        if (pace := self._paces.get(key)) is None:
            pace = self._paces[key] = Pace(rate, self._now)
        left = self._left.setdefault(source, pace.available(self._now))
        if left <= 0:
            self.wait_s = min(self.wait_s, max(0.0, pace.wait(self._now)))
            return False
        self._left[source] = left - 1
        return True

    def written(self, item: Claimed) -> None:
        if pace := self._paces.get((self._carrier.name, item.claim.source)):
            pace.take(1)


class ShortCodes:
    def __init__(self) -> None:
        self._paces: dict[Key, Pace] = {}
        self._kept_until: dict[str, float] = {}  # by when what was kept will have been written
        self._away_until: dict[str, float] = {}  # by when what was sent away will have had its turn

    def use(self, carriers: Sequence[Carrier], now: float) -> None:
        """Their rates may have changed."""
        named = {carrier.name: carrier for carrier in carriers}
        for key in list(self._paces):
            carrier = named.get(key[0])
            rate = carrier.rate_of(key[1]) if carrier is not None else None
            if rate is None:
                del self._paces[key]
            else:
                self._paces[key].change(rate, now)

    def turn(self, carrier: Carrier, now: float) -> Turn | None:
        """None when the carrier's links are all that counts."""
        if carrier.short_code_rate is None and not carrier.short_code_rates:
            return None
        return Turn(self._paces, carrier, now)

    def admit(
        self, items: Sequence[Claimed], carriers: Sequence[Carrier], ahead_s: float, now: float
    ) -> tuple[list[Claimed], list[tuple[Claimed, float]]]:
        """Those to keep, and those to give back with the seconds until their turn. `carriers`: of the bound links."""
        kept, away = [], []
        rates = {source: _together(source, carriers) for source in {item.claim.source for item in items}}
        for item in items:
            source, rate = item.claim.source, rates[item.claim.source]
            if rate == inf or item.claim.message_class is MessageClass.EMERGENCY:
                kept.append(item)
                continue
            until = max(now, self._kept_until.get(source, now)) + 1 / rate
            if until - now <= max(ahead_s, 1 / rate):
                self._kept_until[source] = until
                kept.append(item)
            elif (
                item.claim.attempt > 1
            ):  # it has waited for its turn already, and is the oldest when it comes back
                away.append((item, ahead_s))
            else:
                turn = max(now + ahead_s, self._away_until.get(source, now)) + 1 / rate
                self._away_until[source] = turn
                away.append((item, min(turn - now, LATEST_TURN_S)))
        return kept, away


def _together(source: str, carriers: Sequence[Carrier]) -> float:
    """What all of them allow of one short code; infinite when one has no rate for it."""
    different = {carrier.name: carrier for carrier in carriers if carrier.serves(source)}
    rates = [carrier.rate_of(source) for carrier in different.values()]
    return sum(inf if rate is None else rate for rate in rates) or inf
