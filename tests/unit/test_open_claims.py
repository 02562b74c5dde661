"""Which open claims are given up, which are given back, and when."""

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine.doubt import MARGIN_S, judge
from dispatcher.model import OpenClaim

ME = "columbus-1.life2"


def open_claim(
    claim_id: int, dispatcher: str = "columbus-2.life", claim_for_s: float = 5.0, term: int = 1
) -> OpenClaim:
    return OpenClaim(claim_id=claim_id, dispatcher=dispatcher, term=term, claim_for_s=claim_for_s, segments=3)


def test_a_number_that_is_given_out_again_in_a_later_term_is_another_claim():
    old = judge([open_claim(1)], seen={}, issued=(), identity=ME, now=100.0)
    new = judge([open_claim(1, term=2)], seen=old.seen, issued=(), identity=ME, now=106.0)
    assert new.give_up == ()
    assert new.seen == {(1, 2): 106.0}


def test_a_claim_is_given_up_only_after_its_whole_length_and_a_margin_on_our_clock():
    claims = [open_claim(1)]
    first = judge(claims, seen={}, issued=(), identity=ME, now=100.0)
    assert first.give_up == ()
    early = judge(claims, seen=first.seen, issued=(), identity=ME, now=105.0)
    assert early.give_up == ()
    late = judge(claims, seen=early.seen, issued=(), identity=ME, now=105.0 + MARGIN_S)
    assert late.give_up == (1,)


def test_a_predecessor_by_the_same_name_is_waited_out():
    verdict = judge([open_claim(1, "columbus-1.life1")], seen={}, issued=(), identity=ME, now=100.0)
    assert (verdict.give_up, verdict.give_back) == ((), ())


def test_our_own_claim_that_never_reached_us_is_given_back_at_once():
    verdict = judge([open_claim(1, ME)], seen={}, issued=(), identity=ME, now=100.0)
    assert (verdict.give_up, verdict.give_back) == ((), (1,))


def test_our_own_claim_that_reached_us_is_never_given_back():
    verdict = judge([open_claim(1, ME)], seen={(1, 1): 0.0}, issued={1}, identity=ME, now=100.0)
    assert (verdict.give_up, verdict.give_back) == ((1,), ())


def test_claims_that_were_settled_are_forgotten():
    assert judge([], seen={(1, 1): 0.0}, issued=(), identity=ME, now=100.0).seen == {}


claims = st.lists(
    st.builds(
        open_claim,
        st.integers(1, 20),
        st.sampled_from([ME, "columbus-1.life1", "columbus-2.life"]),
        st.floats(0.1, 10.0),
    ),
    unique_by=lambda claim: claim.claim_id,
)


@given(
    claims,
    st.dictionaries(st.tuples(st.integers(1, 20), st.just(1)), st.floats(0.0, 50.0)),
    st.sets(st.integers(1, 20)),
)
def test_nothing_is_given_up_sooner_than_its_length_after_we_first_saw_it(open_now, seen, issued):
    verdict = judge(open_now, seen=seen, issued=issued, identity=ME, now=50.0)
    by_id = {claim.claim_id: claim for claim in open_now}
    for claim_id in verdict.give_up:
        assert 50.0 - seen[claim_id, 1] >= by_id[claim_id].claim_for_s
    for claim_id in verdict.give_back:
        assert by_id[claim_id].dispatcher == ME
        assert claim_id not in issued
    assert not set(verdict.give_up) & set(verdict.give_back)
