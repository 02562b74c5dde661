"""What the zone should say, what it says, and the one message that turns the one into the other (RFC 2136).

Beside the addresses stands a TXT record, the *mark*, with the term in which they were written. An update compares the
mark with what was read (a prerequisite) and replaces it together with the addresses, so the server carries out either
all of it or nothing: whoever is late, by however much, changes nothing, and an earlier term never replaces a later.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import dns.name
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update

from sitecontrol.settings import DnsTraffic
from sitecontrol.traffic.api import AdapterFailed, Move

KINDS = ("A", "AAAA")
MARK = re.compile(r'^"term=([0-9]{1,15}) site=([a-z][a-z0-9-]{0,38})"$')


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the server says now."""

    addresses: frozenset[str]
    ttl: int | None  # of the addresses; None: there are none
    mark: dns.rdataset.Rdataset | None


def mark_name(record: str) -> dns.name.Name:
    return dns.name.from_text(f"_hotsite-term.{record}")


def mark_text(move: Move) -> str:
    return f'"term={move.term} site={move.site}"'


def stands(seen: Seen) -> Move | None:
    """Who wrote what stands there; None: nobody did. Raises AdapterFailed for a mark that is not ours."""
    if seen.mark is None:
        return None
    texts = [record.to_text() for record in seen.mark]
    found = MARK.match(texts[0]) if len(texts) == 1 else None
    if found is None:
        raise AdapterFailed(f"the TXT record of the term is not ours: {', '.join(texts)}; remove it")
    return Move(site=found[2], term=int(found[1]))


def may_write(seen: Seen, move: Move, record: str) -> None:
    """Raises AdapterFailed when a later term, or another site in this one, stands there."""
    other = stands(seen)
    if other is not None and (other.term > move.term or (other.term == move.term and other != move)):
        raise AdapterFailed(
            f"term {other.term} of {other.site} stands there already, ours is {move.term}; if the terms began anew,"
            f" remove the TXT record {mark_name(record)}"
        )


def what_is_wrong(seen: Seen, move: Move, settings: DnsTraffic) -> str | None:
    wanted = frozenset(settings.addresses[move.site])
    if seen.addresses != wanted:
        is_now = ", ".join(sorted(seen.addresses)) or "nothing"
        return f"{settings.record} is {is_now}, and should be {', '.join(sorted(wanted))}"
    if seen.ttl != settings.ttl:
        return f"{settings.record} has the TTL {seen.ttl}, and should have {settings.ttl}"
    if stands(seen) != move:
        return f"{settings.record} was not written in term {move.term}"
    return None


def update_of(seen: Seen, move: Move, settings: DnsTraffic, key: dns.tsig.Key) -> dns.update.UpdateMessage:
    name, mark = dns.name.from_text(settings.record), mark_name(settings.record)
    update = dns.update.UpdateMessage(settings.zone, keyring=key)
    if seen.mark is None:
        update.absent(mark, "TXT")
    else:
        update.present(mark, "TXT", *(record.to_text() for record in seen.mark))
    for kind in KINDS:
        update.delete(name, kind)
    for kind, address in _kinds(settings.addresses[move.site]):
        update.add(name, settings.ttl, kind, address)
    update.delete(mark, "TXT")
    update.add(mark, settings.ttl, "TXT", mark_text(move))
    return update


def plan(move: Move, settings: DnsTraffic) -> list[str]:
    """In the words of nsupdate(1)."""
    mark = mark_name(settings.record)
    host, _, port = settings.server.rpartition(":")
    return [
        f"server {host.strip('[]')} {port}",
        f"zone {settings.zone}",
        f"prereq yxrrset {mark} TXT <what stands there, of a term up to {move.term}>",
        *(f"update delete {settings.record} {kind}" for kind in KINDS),
        *(
            f"update add {settings.record} {settings.ttl} {kind} {address}"
            for kind, address in _kinds(settings.addresses[move.site])
        ),
        f"update delete {mark} TXT",
        f"update add {mark} {settings.ttl} TXT {mark_text(move)}",
    ]


def _kinds(addresses: Sequence[str]) -> list[tuple[str, str]]:
    return [("AAAA" if ":" in address else "A", address) for address in addresses]
