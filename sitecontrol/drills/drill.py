"""What a drill is: a short story, and what must hold besides the invariants.

While a story runs, clients at both sites send steadily. What must hold in all of them is checked by `checks`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum

from sitecontrol.drills.stage import Stage

SWAP_COSTS = 10.0  # seconds more of a pause: a held swap may have to be rolled back first

Story = Callable[[Stage, str], Awaitable[None]]


class Expect(Enum):
    STAYS = "stays"
    MOVES = "moves"
    EITHER = "either"


@dataclass(frozen=True, kw_only=True)
class Drill:
    name: str
    summary: str
    story: Story
    strikes: str  # "live" or "hot": the site that the story is about, when none is named
    pause_limit: float  # seconds between two acknowledgements, at most
    median_limit: float | None = None  # of several runs, the median of their pauses, at most
    live: Expect = Expect.STAYS  # the site that leads afterwards is the one from before
    term: Expect = Expect.STAYS  # and nobody led in between
    nothing_refused: bool = False  # and no connection breaks, but those to what the story kills
    one_window_in_doubt: bool = False  # of those that a dispatcher has, one for each link
    silent_when_cut: bool = False  # the site that is cut off acknowledges nothing, and fences
    several_nodes: bool = False  # its story is also that of sites with two nodes
    needs_volumes: bool = False  # of a lab that was started with --volume-mb
    in_swap: bool = False  # it can also strike in the middle of a planned swap
    takes: str = ""  # how long, roughly
    takes_quick: str | None = None  # with --quick; None: as long

    def lasts(self, *, quick: bool) -> str:
        """How long it takes, roughly."""
        return self.takes_quick if quick and self.takes_quick is not None else self.takes

    def during_a_swap(self) -> "Drill":
        """The same, struck while a swap holds requests: where production ends up is open, that it goes on is not."""
        return replace(
            self,
            pause_limit=self.pause_limit + SWAP_COSTS,
            median_limit=None,
            live=Expect.EITHER,
            term=Expect.EITHER,
            nothing_refused=False,
            silent_when_cut=False,
        )
