"""RFC 2136 against a real name server: the record follows the term, and an earlier term never replaces a later."""

import asyncio
import socket

import pytest

from sitecontrol.traffic import dns_record
from sitecontrol.traffic.api import AdapterFailed, Move
from sitecontrol.traffic.dns import CHANGED
from tests.knot import COLUMBUS, DENVER, RECORD, NameServer, key, name_server, needs_knot

__all__ = ["name_server"]  # the fixture

pytestmark = needs_knot

MARK = f"_hotsite-term.{RECORD}"
TO_COLUMBUS = Move(site="columbus", term=5)
TO_DENVER = Move(site="denver", term=6)


async def test_the_first_update_makes_the_record_and_its_mark(name_server: NameServer) -> None:
    assert "is nothing, and should be 203.0.113.10" in str(await name_server.adapter().check(TO_COLUMBUS))
    await name_server.adapter().point_to(TO_COLUMBUS)
    assert await name_server.says(RECORD, "A") == [*COLUMBUS]
    assert await name_server.says(MARK, "TXT") == ['"term=5 site=columbus"']
    assert await name_server.adapter().check(TO_COLUMBUS) is None


async def test_a_later_term_replaces_every_address(name_server: NameServer) -> None:
    await name_server.adapter().point_to(TO_COLUMBUS)
    await name_server.adapter().point_to(TO_DENVER)
    assert await name_server.says(RECORD, "A") == [DENVER[0]]
    assert await name_server.says(RECORD, "AAAA") == [DENVER[1]]
    await name_server.adapter().point_to(Move(site="columbus", term=7))
    assert await name_server.says(RECORD, "A") == [*COLUMBUS]
    assert await name_server.says(RECORD, "AAAA") == []


async def test_an_earlier_term_is_refused_and_changes_nothing(name_server: NameServer) -> None:
    await name_server.adapter().point_to(TO_DENVER)
    before = await name_server.serial()
    for act in (name_server.adapter().point_to, name_server.adapter().check):
        with pytest.raises(
            AdapterFailed, match=r"^term 6 of denver stands there already, ours is 5; .* remove"
        ):
            await act(TO_COLUMBUS)
    assert await name_server.serial() == before


async def test_another_site_in_the_same_term_is_refused(name_server: NameServer) -> None:
    await name_server.adapter().point_to(TO_DENVER)
    with pytest.raises(AdapterFailed, match="term 6 of denver stands there already"):
        await name_server.adapter().point_to(Move(site="columbus", term=6))


@pytest.mark.parametrize("first", [None, Move(site="columbus", term=4)])
async def test_an_update_that_arrives_after_that_of_a_later_term_is_refused_by_the_server(
    name_server: NameServer, first: Move | None
) -> None:
    """It was reasoned from what stood there before."""
    adapter = name_server.adapter()
    if first is not None:
        await adapter.point_to(first)
    seen = await adapter._look()
    late = dns_record.update_of(seen, TO_COLUMBUS, adapter._settings, key())
    await adapter.point_to(TO_DENVER)
    assert await name_server.send(late) in CHANGED
    assert await adapter.check(TO_DENVER) is None


async def test_of_terms_that_write_at_once_the_latest_stands(name_server: NameServer) -> None:
    moves = [Move(site=("columbus", "denver")[term % 2], term=term) for term in range(1, 13)]
    results = await asyncio.gather(
        *(name_server.adapter().point_to(move) for move in moves), return_exceptions=True
    )
    assert all(result is None or isinstance(result, AdapterFailed) for result in results)
    await name_server.adapter().point_to(moves[-1])
    assert await name_server.adapter().check(moves[-1]) is None


async def test_a_repeated_update_sends_nothing(name_server: NameServer) -> None:
    await name_server.adapter().point_to(TO_COLUMBUS)
    before = await name_server.serial()
    await name_server.adapter().point_to(TO_COLUMBUS)
    assert await name_server.serial() == before


async def test_a_new_term_of_the_same_site_renews_the_mark(name_server: NameServer) -> None:
    await name_server.adapter().point_to(TO_COLUMBUS)
    await name_server.adapter().point_to(Move(site="columbus", term=6))
    assert await name_server.says(MARK, "TXT") == ['"term=6 site=columbus"']


async def test_what_was_changed_by_hand_is_seen_and_put_right(name_server: NameServer) -> None:
    adapter = name_server.adapter()
    await adapter.point_to(TO_COLUMBUS)
    by_hand = name_server.update()
    by_hand.add(f"{RECORD}.", 5, "A", "192.0.2.99")
    await name_server.send(by_hand)
    assert await adapter.check(TO_COLUMBUS) == (
        f"{RECORD} is 192.0.2.99, 203.0.113.10, and should be 203.0.113.10"
    )
    await adapter.point_to(TO_COLUMBUS)
    assert await name_server.says(RECORD, "A") == [*COLUMBUS]


async def test_another_ttl_in_the_settings_reaches_the_server(name_server: NameServer) -> None:
    await name_server.adapter().point_to(TO_COLUMBUS)
    slower = name_server.adapter(ttl=30)
    assert "has the TTL 5, and should have 30" in str(await slower.check(TO_COLUMBUS))
    await slower.point_to(TO_COLUMBUS)
    assert await slower.check(TO_COLUMBUS) is None


async def test_a_txt_record_that_is_not_ours_is_left_and_told(name_server: NameServer) -> None:
    by_hand = name_server.update()
    by_hand.add(f"{MARK}.", 5, "TXT", '"v=spf1 -all"')
    await name_server.send(by_hand)
    with pytest.raises(AdapterFailed, match='not ours: "v=spf1 -all"; remove it'):
        await name_server.adapter().point_to(TO_COLUMBUS)
    assert await name_server.says(RECORD, "A") == []


async def test_an_update_that_the_server_takes_and_does_not_carry_out_is_a_failure(
    name_server: NameServer,
) -> None:
    """No address is put beside a CNAME (RFC 2136, 3.4.2.2)."""
    with pytest.raises(AdapterFailed, match="the update was taken, and yet alias"):
        await name_server.adapter(record="alias.example.net").point_to(TO_COLUMBUS)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"secret": "d3Jvbmc="}, "does not accept the key hotsite"),
        ({"key_name": "stranger"}, "does not accept the key stranger"),
        ({"record": "ns.example.net"}, "when the key may not update these names"),
        ({"zone": "example.org", "record": "texts.example.org"}, "is it the primary of example.org"),
    ],
)
async def test_a_server_that_refuses_is_told_with_the_cure(
    name_server: NameServer, changed: dict[str, str], told: str
) -> None:
    with pytest.raises(AdapterFailed, match=told):
        await name_server.adapter(**changed).point_to(TO_COLUMBUS)


async def test_a_server_that_is_silent_is_told_within_the_deadline(name_server: NameServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        adapter = name_server.adapter(server=f"127.0.0.1:{mute.getsockname()[1]}", deadline=0.2)
        with pytest.raises(AdapterFailed, match=r"^no answer within 0\.2 s$"):
            await adapter.point_to(TO_COLUMBUS)


async def test_a_server_that_is_not_there_is_told(name_server: NameServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(AdapterFailed, match=rf"^127\.0\.0\.1:{port}: "):
        await name_server.adapter(server=f"127.0.0.1:{port}").point_to(TO_COLUMBUS)
