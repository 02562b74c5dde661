"""Settings by which two nodes could lead at once are refused, with the sum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitecontrol.leadership.timing import check, prove
from sitecontrol.settings import FailoverSettings, SettingsError


def test_the_defaults_fence_before_anybody_is_promoted():
    check(FailoverSettings())


def test_a_margin_that_is_too_small_is_refused_with_the_sum_and_a_margin_that_would_do():
    with pytest.raises(SettingsError, match=r"2 - lease_margin 0.1 .* = 2.32 s.* at least 0.42"):
        check(FailoverSettings(lease_margin=0.1))


def test_renewals_too_far_apart_are_refused():
    with pytest.raises(SettingsError, match="renew_every"):
        check(FailoverSettings(renew_every=1.0))


@given(ttl=st.integers(2, 60), margin=st.floats(0.01, 60))
def test_whatever_is_let_through_fences_before_the_lease_can_end(ttl, margin):
    settings = FailoverSettings(lease_ttl=ttl, lease_margin=margin, renew_every=0.05)
    try:
        check(settings)
    except SettingsError:
        return
    assert prove(settings).fenced_at <= ttl
