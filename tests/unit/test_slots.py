"""What the leader does about its slots: WAL is kept for nodes that are away, and for no longer than they need it."""

from dataclasses import replace

from sitecontrol.leadership.effects import KeepWal
from sitecontrol.leadership.facts import Facts, SlotFacts
from sitecontrol.leadership.slots import BEHIND_BYTES, keeping, slot_of
from tests.unit.leadership_facts import at_columbus, primary

SLOT = "hotsite_denver_a"


def with_slots(*slots: SlotFacts) -> Facts:
    return at_columbus(pg=primary(slots=slots))


def slot(lsn: int = 1_000, *, name: str = SLOT, lost: bool = False) -> SlotFacts:
    return SlotFacts(name=name, lsn=lsn, lost=lost)


def test_every_other_node_has_a_slot() -> None:
    assert slot_of("denver-a") == SLOT
    assert keeping(with_slots()) == KeepWal(drop=(), make=(SLOT,), move=())
    assert keeping(with_slots(slot())) is None


def test_a_slot_is_moved_behind_what_its_node_has_but_not_at_every_look() -> None:
    def streams(lsn: int) -> Facts:
        facts = with_slots(slot())
        standby = replace(facts.pg.standbys[0], flush_lsn=lsn)
        return replace(facts, pg=replace(facts.pg, standbys=(standby,)))

    assert keeping(streams(1_000 + BEHIND_BYTES)) is None
    far = 1_001 + BEHIND_BYTES
    assert keeping(streams(far)) == KeepWal(drop=(), make=(), move=((SLOT, far),))


def test_the_slot_of_a_node_that_is_away_stays_where_it_is() -> None:
    facts = with_slots(slot())
    assert keeping(replace(facts, pg=replace(facts.pg, standbys=(), received_lsn=10 * BEHIND_BYTES))) is None


def test_a_slot_that_is_lost_is_made_anew_and_one_that_is_nobodys_is_dropped() -> None:
    assert keeping(with_slots(slot(lost=True))) == KeepWal(drop=(SLOT,), make=(SLOT,), move=())
    gone = slot(name="hotsite_gone_a")
    assert keeping(with_slots(slot(), gone)) == KeepWal(drop=(gone.name,), make=(), move=())


def test_a_slot_of_somebody_else_is_left_alone() -> None:
    assert keeping(with_slots(slot(), slot(name="backup"))) is None
