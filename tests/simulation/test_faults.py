"""Schedules of faults: what is between them."""

import random

from tests.simulation.faults import BEGIN, REST, Fault, Kind, closer, schedule


def test_no_fault_waits_longer_than_a_rest_for_the_end_of_those_before_it():
    for seed in range(500):
        over = BEGIN
        for fault in schedule(random.Random(seed)):
            assert fault.at - over <= REST + 0.01
            over = max(over, fault.at + fault.lasts)


def test_faults_that_meet_go_on_meeting_as_they_did():
    faults = (
        Fault(9.0, 4.0, Kind.CUT, "columbus", "denver"),
        Fault(9.7, 1.0, Kind.SWAP, "denver"),
        Fault(18.0, 1.0, Kind.KILL_AGENT, "denver"),
    )
    first, second, third = closer(faults)
    assert round(second.at - first.at, 2) == 0.7
    assert round(third.at - first.at - first.lasts, 2) == 2.0
    assert [(f.kind, f.lasts) for f in (first, second, third)] == [(f.kind, f.lasts) for f in faults]
