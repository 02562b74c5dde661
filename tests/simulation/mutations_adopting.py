"""The rules of making anew what etcd has lost, each taken out by itself."""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from sitecontrol import belief
from sitecontrol.leadership import adopting
from sitecontrol.leadership.adopting import Adoption, Node, Word
from sitecontrol.leadership.facts import Facts
from tests.simulation.faults import Fault, Kind
from tests.simulation.mutation import SAFETY, Mutation

# -- rules taken out -----------------------------------------------------------------------------------------------


def _who_is_not_heard_has_no_more() -> AbstractContextManager[Any]:
    """It counts as gone, though nobody said so."""
    real = adopting.adoption

    def adoption(f: Facts, nodes: Sequence[Node], word: Word) -> Adoption:
        silent = tuple(n.node for n in nodes if n.told is None)
        return real(f, nodes, replace(word, gone=(*word.gone, *silent)))

    return patch("sitecontrol.agent.adopt_api.adoption", adoption)


def _loss_is_not_told() -> AbstractContextManager[Any]:
    return patch.object(adopting, "_comes", lambda *_: iter(()))


def _only_who_saw_it_misses_it() -> AbstractContextManager[Any]:
    return patch.object(belief, "_missed", lambda picture: picture)


# -- schedules that need them --------------------------------------------------------------------------------------


def more_is_away(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site falls out of step, the live one acknowledges more and is lost, and etcd's data are lost."""
    lost = round(rng.uniform(6.0, 8.0), 2)
    return (
        Fault(3.0, 14.0, Kind.CUT, "columbus", "denver"),
        Fault(lost, 12.0, Kind.KILL_SITE, "columbus"),
        Fault(round(lost + 0.5, 2), 1.0, Kind.ETCD_ANEW, "witness"),
    )


def older_is_named(rng: random.Random) -> tuple[Fault, ...]:
    """Likewise, and an operator says that the hot site holds everything."""
    cut, gone, anew = more_is_away(rng)
    return (cut, gone, replace(anew, other="denver"))


def leader_starts_again(rng: random.Random) -> tuple[Fault, ...]:
    """Records are deleted while the leader's agent is just being started again, within its lease."""
    at = round(rng.uniform(3.0, 5.0), 2)
    return (
        Fault(at, 0.6, Kind.LOSE_POWER, "columbus"),
        Fault(round(at + 0.3, 2), 0.1, Kind.KEYS_LOST, "witness"),
    )


ADOPTING = (
    Mutation(
        name="who is not heard has no more",
        rule="an adoption is refused while a node is not heard, unless a person counts it as gone",
        breaks=SAFETY,
        patch=_who_is_not_heard_has_no_more,
        scenario=more_is_away,
    ),
    Mutation(
        name="an adoption does not tell what is lost",
        rule="who has a node lead on without the others is told of what they may have",
        breaks=frozenset({"loss-told"}),
        patch=_loss_is_not_told,
        scenario=older_is_named,
    ),
    Mutation(
        name="only who saw a record misses it",
        rule="what stays for ever is missed while somebody leads, also by the leader's agent that was just started",
        breaks=frozenset({"converges"}),
        patch=_only_who_saw_it_misses_it,
        scenario=leader_starts_again,
    ),
)
