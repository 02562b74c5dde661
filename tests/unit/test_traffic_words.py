"""What is said to HAProxy and to a name server, and what is made of their answers, without either of them."""

import pytest

from sitecontrol.settings import DnsTraffic
from sitecontrol.traffic import dns_record
from sitecontrol.traffic.api import Move
from sitecontrol.traffic.haproxy import commands, what_is_wrong

SERVERS = {"columbus": ["c1", "c2"], "denver": ["d1"]}
HEADER = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state"


def answer(**states: int) -> str:
    rows = [f"4 dispatchers {n} {name} 10.0.0.1 {state} 0" for n, (name, state) in enumerate(states.items())]
    return "\n".join([HEADER, *rows, "", ""])


def test_our_servers_are_called_healthy_before_the_others_are_called_down() -> None:
    assert commands("dispatchers", SERVERS, "columbus") == [
        "set server dispatchers/c1 health up",
        "set server dispatchers/c2 health up",
        "set server dispatchers/d1 health down",
    ]


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        (answer(c1=2, c2=2, d1=0), ""),
        (answer(c1=2, c2=0, d1=0, **{"d1-any": 2}), ""),  # one of two does
        (answer(c1=0, c2=0, d1=0), "takes no dispatcher of columbus for live"),
        (answer(c1=2, c2=2, d1=2), "takes d1 for live"),
        (answer(c1=2, d1=0), "has no server c2"),
        ("Can't find backend.\n", "Can't find backend."),
        ("", "an empty answer"),
    ],
)
def test_haproxys_answer_is_right_when_some_of_our_servers_run_and_no_others(told: str, wrong: str) -> None:
    assert what_is_wrong(told, SERVERS, "columbus") == wrong


def test_the_plan_for_dns_is_in_the_words_of_nsupdate() -> None:
    settings = DnsTraffic(
        server="[2001:db8::53]:53",
        zone="example.net",
        record="texts.example.net",
        key_name="hotsite",
        addresses={"columbus": ("203.0.113.10",), "denver": ("198.51.100.10", "2001:db8::10")},
    )
    assert dns_record.plan(Move(site="denver", term=8), settings) == [
        "server 2001:db8::53 53",
        "zone example.net",
        "prereq yxrrset _hotsite-term.texts.example.net. TXT <what stands there, of a term up to 8>",
        "update delete texts.example.net A",
        "update delete texts.example.net AAAA",
        "update add texts.example.net 5 A 198.51.100.10",
        "update add texts.example.net 5 AAAA 2001:db8::10",
        "update delete _hotsite-term.texts.example.net. TXT",
        'update add _hotsite-term.texts.example.net. 5 TXT "term=8 site=denver"',
    ]
