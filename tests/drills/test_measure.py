"""The numbers of a drill, and what must hold, worked out from records made by hand."""

from collections import Counter
from dataclasses import replace

import pytest

from sitecontrol.drills.accounting import Fate, Unanswered, fate_of
from sitecontrol.drills.carriers import Received
from sitecontrol.drills.checks import Evidence, check
from sitecontrol.drills.ledger import Ack, Broken, Ledger, Refusal, Text
from sitecontrol.drills.measure import (
    Duplicates,
    Gap,
    duplicates,
    first_ack_after,
    in_step_again,
    longest_gap,
    stale_acks,
    two_sites_in_one_term,
    unexpected,
)
from sitecontrol.drills.run import delivers, lost_messages, settle_within, simulated
from sitecontrol.drills.stories import DRILLS
from tests.drills.test_configs import plan_in


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (True, True)),
        ({"simulator": {"receipt_outcome": "DELIVRD=9,UNDELIV=1"}}, (True, False)),
        ({"simulator": {"receipt_outcome": "DELIVRD=9"}}, (True, True)),
        ({"carriers": [{"name": "mine", "host": "smsc.example.com", "port": 2775}]}, (False, False)),
    ],
    ids=["as made", "some fail", "one outcome", "an SMSC of one's own"],
)
def test_delivery_is_asked_of_carriers_that_deliver_everything_only(tmp_path, options, expected):
    plan = plan_in(tmp_path / "lab", **options)
    assert (simulated(plan), delivers(plan)) == expected


def test_slow_receipts_are_waited_for(tmp_path):
    slow = plan_in(tmp_path / "slow", simulator={"receipt_delay_ms": 90_000})
    assert settle_within(slow) == settle_within(plan_in(tmp_path / "lab")) + 90 - 0.05


def ack(t: float, *, client: str = "columbus", term: int = 1, asked_at: float | None = None, **more) -> Ack:
    given = {"reference": f"r{t}", "id": f"id{t}", "live_site": "columbus", "site": client, **more}
    return Ack(
        client=client,
        asked_at=t if asked_at is None else asked_at,
        t=t,
        wall=t,
        term=term,
        durability="two-site",
        duplicate=False,
        **given,
    )


def test_the_pause_is_the_longest_gap_of_any_one_client() -> None:
    acks = [ack(0), ack(1), ack(4), ack(0.5, client="denver"), ack(2.5, client="denver")]
    gap = longest_gap(acks, ["columbus", "denver"])
    assert gap == Gap(client="columbus", start=1, end=4)


def test_acknowledgements_of_the_other_client_do_not_shorten_a_pause() -> None:
    acks = [ack(0), ack(3), ack(1, client="denver"), ack(2, client="denver")]
    gap = longest_gap(acks, ["columbus", "denver"])
    assert gap is not None
    assert gap.length == 3


def test_a_service_that_never_came_back_pauses_until_the_end() -> None:
    gap = longest_gap([ack(0), ack(1)], ["columbus"], end=20)
    assert gap is not None
    assert gap.length == 19


def test_the_first_acknowledgement_counts_only_for_texts_sent_after_the_fault() -> None:
    assert first_ack_after([ack(5.01, asked_at=4.9), ack(7.0, asked_at=5.2)], 5.0) == pytest.approx(2.0)
    assert first_ack_after([ack(5.01, asked_at=4.9)], 5.0) is None


def test_an_old_term_that_acknowledges_what_was_sent_after_a_newer_one_opened_is_stale() -> None:
    late = ack(12.0, term=1, asked_at=11.0)
    on_its_way = ack(10.1, term=1, asked_at=9.9)
    assert stale_acks([ack(9, term=1), ack(10, term=2), on_its_way, late]) == [late]


def test_two_live_sites_in_one_term_are_named() -> None:
    acks = [ack(1), ack(2, live_site="denver"), ack(3, term=2, live_site="denver")]
    assert two_sites_in_one_term(acks) == {1: {"columbus", "denver"}}


def test_a_text_received_twice_is_declared_only_if_its_message_was_in_doubt() -> None:
    texts = {name: Text(reference=name, to=f"+1{name}", body=f"text {name}") for name in ("a", "b", "c")}
    copies = Counter(
        {("1a", "text a", 1): 2, ("1b", "text b", 1): 3, ("1c", "text c", 1): 1, ("9", "x", 1): 5}
    )
    assert duplicates(copies, texts, frozenset({"a"})) == Duplicates(copies=3, declared=1, undeclared=("b",))


def test_a_message_is_lost_when_unknown_or_delivered_without_having_reached_a_carrier(tmp_path) -> None:
    ledger = Ledger(tmp_path / "acks.jsonl")
    acks = [
        ack(t, id=name, reference=name) for t, name in enumerate(("fine", "missing", "claimed", "failed"))
    ]
    for one in acks:
        ledger.asked(Text(reference=one.reference, to="+1555", body=one.reference))
        ledger.acknowledge(one)
    states = {"fine": "delivered", "missing": "missing", "claimed": "delivered", "failed": "failed"}
    fates = {
        name: Fate(id=name, reference=name, state=state, was_in_doubt=False, attempts=1)
        for name, state in states.items()
    }
    received = [Received(wall=0, carrier="aurora", to="1555", text="fine", part=1)]
    assert lost_messages(ledger.acknowledged, fates, ledger, received) == ["claimed", "missing"]
    assert lost_messages(ledger.acknowledged, fates, ledger, None) == ["missing"]


def test_doubt_is_seen_in_a_messages_story_after_it_was_settled() -> None:
    events = [{"state": "accepted"}, {"state": "in_doubt"}, {"state": "delivered"}]
    fate = fate_of("id", "ref", {"state": "delivered", "attempts": 2, "events": events})
    assert fate.final
    assert fate.was_in_doubt


def evidence(name: str = "site-loss", **more) -> Evidence:
    given = Evidence(
        drill=DRILLS[name],
        site="columbus",
        acks=[ack(1), ack(10, term=2, live_site="denver")],
        refusals=[],
        lost=[],
        fates=[],
        unanswered=[],
        acknowledged=0,
        strangers=[],
        delivers=True,
        broken=[],
        fencing={"decided": 12.0, "connections_ended": 20.5, "postgres_ended": 25.0, "locked_out": 80.0},
        doubles=Duplicates(copies=0, declared=0, undeclared=()),
        doubts={},
        windows={"aurora": 50, "borealis": 50},
        idle=False,
        pause=Gap(client="columbus", start=1, end=3),
        fault_at=2,
        healed_at=20,
        two_site_again=True,
        swap_over=True,
        live_before="columbus",
        live_after="denver",
        term_before=1,
        term_after=2,
        missed=[],
    )
    return replace(given, **{"acknowledged": len(more.get("fates", ())), **more})


def test_a_drill_in_which_everything_holds_has_no_notes() -> None:
    held, notes = check(evidence())
    assert all(held.values())
    assert notes == []


def test_what_was_accepted_has_a_state_to_the_unit_and_the_carriers_have_nothing_else() -> None:
    fate = fate_of("id", "ref", {"state": "delivered", "attempts": 1, "events": []})
    assert check(evidence(acknowledged=1, fates=[fate]))[0]["accounts-balance"]
    held, notes = check(evidence(acknowledged=2, fates=[fate]))
    assert not held["accounts-balance"]
    assert "1 acknowledged messages have no state" in notes[0]
    assert not check(evidence(strangers=["Drill x"]))[0]["accounts-balance"]


@pytest.mark.parametrize(
    ("doubts", "holds"),
    [
        ({}, True),
        ({"aurora": 50, "borealis": 50}, True),
        ({"aurora": 51}, False),
        ({"nobody": 1}, False),
        ({None: 100}, True),
        ({None: 70, "aurora": 31}, False),
        (None, False),
    ],
)
def test_a_dispatcher_that_dies_leaves_no_more_in_doubt_than_its_window_on_each_link(doubts, holds) -> None:
    calm = {"live_after": "columbus", "term_after": 1, "pause": Gap(client="c", start=0, end=0.4)}
    held, notes = check(evidence("dispatcher-crash", doubts=doubts, **calm))
    assert held["only-its-window-in-doubt"] is holds
    assert (notes == []) is holds
    assert "only-its-window-in-doubt" not in check(evidence(doubts=doubts))[0]


REFUSAL = Refusal(client="columbus", reference="r", t=1, site="columbus", status=503, title="")
CALM_SWAP = {"live_after": "columbus", "pause": Gap(client="c", start=0, end=0.4)}


def fate(state: str, *, was_in_doubt: bool = False, number: int = 1) -> Fate:
    return Fate(id=f"id{number}", reference="r", state=state, was_in_doubt=was_in_doubt, attempts=1)


def broken(*, url: str = "http://a", t: float = 3) -> Broken:
    return Broken(client="columbus", reference="r", t=t, site="columbus", url=url, error="ServerDisconnected")


def asked_after(*, known: bool = True, fate: Fate | None = None, at_carrier: bool = False) -> Unanswered:
    return Unanswered(reference="r", known=known, fate=fate, at_carrier=at_carrier)


@pytest.mark.parametrize(
    ("broken", "drill", "change"),
    [
        ("acked-survives", "site-loss", {"lost": ["r1"]}),
        (
            "all-settled",
            "site-loss",
            {"fates": [fate("in_doubt", was_in_doubt=True)]},
        ),
        ("all-settled", "site-loss", {"fates": [fate("submitted")], "delivers": False}),
        ("all-delivered", "site-loss", {"fates": [fate("delivered"), fate("rejected")]}),
        (
            "all-delivered",
            "carrier-loss",
            {
                "live_after": "columbus",
                "term_after": 1,
                "pause": Gap(client="c", start=0, end=0.4),
                "fates": [fate("unknown")],
            },
        ),
        (
            "duplicates-only-declared",
            "site-loss",
            {"doubles": Duplicates(copies=1, declared=0, undeclared=("r",))},
        ),
        ("one-writer", "site-loss", {"acks": [ack(1, term=2), ack(3, term=1)]}),
        ("pause-within-limit", "site-loss", {"pause": Gap(client="c", start=0, end=5.1)}),
        ("pause-within-limit", "site-loss", {"pause": None}),
        ("converges", "site-loss", {"two_site_again": False}),
        ("swap-ends", "site-loss", {"swap_over": False}),
        ("production-moves", "site-loss", {"live_after": "columbus"}),
        ("newer-term", "site-loss", {"term_after": 1}),
        ("story-as-told", "site-loss", {"missed": ["denver is live"]}),
        ("production-stays", "wan-cut", {"term_after": 1}),
        ("same-term", "wan-cut", {"live_after": "columbus"}),
        (
            "no-request-refused",
            "swap",
            {**CALM_SWAP, "refusals": [REFUSAL]},
        ),
        ("no-request-refused", "swap", {**CALM_SWAP, "broken": [broken()]}),
        ("cut-site-fences", "live-isolated", {"acks": [], "fencing": {}}),
        ("cut-site-fences", "live-isolated", {"acks": [], "fencing": {"decided": 12.0}}),
        ("cut-site-acknowledges-nothing", "live-isolated", {"acks": [ack(2.5, site="columbus")]}),
    ],
)
def test_each_invariant_is_noticed_when_it_alone_is_broken(broken: str, drill: str, change: dict) -> None:
    held, notes = check(evidence(drill, **change))
    assert [name for name, holds in held.items() if not holds] == [broken]
    assert len(notes) == 1


@pytest.mark.parametrize(
    "state", ["undelivered", "rejected", "expired", "failed", "canceled", "unknown", "suppressed"]
)
def test_no_other_end_than_delivered_is_good_enough_where_the_carriers_deliver_everything(state: str) -> None:
    assert not check(evidence(fates=[fate(state)]))[0]["all-delivered"]
    assert "all-delivered" not in check(evidence(fates=[fate(state)], delivers=False))[0]


def test_a_message_that_was_listed_as_in_doubt_may_end_otherwise() -> None:
    held, notes = check(evidence(fates=[fate("unknown", was_in_doubt=True)]))
    assert all(held.values())
    assert notes == []


@pytest.mark.parametrize(("state", "name"), [("queued", "all-settled"), ("expired", "all-delivered")])
def test_up_to_ten_messages_are_named_with_their_states(state: str, name: str) -> None:
    _, [note] = check(evidence(fates=[fate(state, number=number) for number in range(12)]))
    assert note.startswith(f"{name}: 12 ")
    assert [f"id{number} {state}" in note for number in range(12)] == [True] * 10 + [False] * 2


@pytest.mark.parametrize("name", DRILLS)
def test_no_story_leaves_a_text_unanswered_because_clients_ask_both_sites_for_longer_than_any_lasts(
    name: str,
) -> None:
    held, notes = check(evidence(name, unanswered=[asked_after()]))
    assert not held["every-text-answered"]
    assert any(note.startswith("every-text-answered: 1 ") for note in notes)


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (asked_after(), True),
        (asked_after(fate=fate("delivered"), at_carrier=True), True),
        (asked_after(fate=fate("unknown", was_in_doubt=True)), True),
        (asked_after(fate=fate("rejected")), False),
        (asked_after(fate=fate("queued")), False),
        (asked_after(fate=fate("missing")), False),
        (asked_after(at_carrier=True), False),
        (asked_after(known=False), False),
    ],
    ids=[
        "never accepted",
        "accepted and delivered",
        "accepted and in doubt",
        "accepted and not delivered",
        "accepted and not settled",
        "accepted and gone",
        "never accepted, but sent",
        "nobody can say",
    ],
)
def test_what_nobody_answered_was_either_accepted_and_delivered_or_never_sent(
    found: Unanswered,
    holds: bool,  # noqa: FBT001 # the expected fact
) -> None:
    assert check(evidence(unanswered=[found]))[0]["unanswered-accounted-for"] is holds


def test_a_broken_connection_is_expected_only_from_what_the_story_killed_and_only_since() -> None:
    before, killed, other = broken(t=1), broken(t=3), broken(t=3, url="http://b")
    assert unexpected([before, killed, other], killed={"http://a"}, since=2) == [before, other]


CUT = [(0.0, True), (10.5, False), (31.0, True)]


@pytest.mark.parametrize(
    ("changes", "since", "seconds"),
    [
        (CUT, [30.0], 1.0),
        (CUT, [10.0], 21.0),
        ([(0.0, True)], [10.0], 0.0),
        ([(0.0, True), (10.5, False)], [10.0], None),
        ([(0.0, True), (10.2, False), (11.0, True), (20.1, False), (20.6, True)], [10.0, 20.0], 1.0),
        ([(0.0, True), (10.2, False), (20.6, True)], [10.0, 20.0], 0.6),
        ([], [10.0], None),
    ],
    ids=[
        "from the healing",
        "from the fault",
        "never out of step",
        "never in step again",
        "the longer of two",
        "struck again before it was whole",
        "never seen",
    ],
)
def test_the_way_back_is_counted_until_the_sites_stay_in_step(changes, since, seconds) -> None:
    assert in_step_again(changes, since) == (seconds if seconds is None else pytest.approx(seconds))
