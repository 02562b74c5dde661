"""Without the rows that are not asked in the situations of nearly all looks, the same row is taken in each of them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitecontrol.leadership.decide import TABLE
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Lane, Row
from sitecontrol.leadership.unasked import (
    UNASKED_WHILE_FOLLOWING,
    UNASKED_WHILE_OPEN,
    asked,
    follows,
    leads_openly,
)
from sitecontrol.records import Term
from tests.decisions_page import situations
from tests.unit.leadership_facts import COLUMBUS, DENVER, OUR_LEASE, entry, leader
from tests.unit.test_decide_properties import any_facts

ANYBODYS_LEASE = 99
POSTGRES = TABLE[Lane.POSTGRES]


def taken(rows: Sequence[Row], f: Facts) -> str:
    return next(row.name for row in rows if row.when(f))


def _leading(f: Facts) -> Facts:
    cluster = replace(f.cluster, leader=entry(leader(f.node, 3), OUR_LEASE), term=entry(Term(term=3)))
    pg = replace(f.pg, state=PgState.PRIMARY, open_term=3)
    return replace(f, cluster=cluster, pg=pg, lease=replace(f.lease, id=OUR_LEASE))


def _following(f: Facts) -> Facts:
    other = DENVER if f.node == COLUMBUS else COLUMBUS
    cluster = replace(f.cluster, leader=entry(leader(other, 3), ANYBODYS_LEASE))
    return replace(f, cluster=cluster, pg=replace(f.pg, state=PgState.STANDBY))


@given(st.one_of(any_facts.map(_leading), any_facts.map(_following)))
def test_no_row_that_is_not_asked_would_be_taken(facts):
    assert len(asked(POSTGRES, facts)) < len(POSTGRES)
    assert taken(asked(POSTGRES, facts), facts) == taken(POSTGRES, facts)


def test_likewise_in_each_situation_that_the_decisions_page_shows():
    found = [facts for facts in situations() if leads_openly(facts) or follows(facts)]
    assert found
    for facts in found:
        assert taken(asked(POSTGRES, facts), facts) == taken(POSTGRES, facts)


@pytest.mark.parametrize("names", [UNASKED_WHILE_OPEN, UNASKED_WHILE_FOLLOWING], ids=["open", "follows"])
def test_they_are_rows_of_the_table(names: frozenset[str]):
    assert names <= {row.name for row in POSTGRES}
