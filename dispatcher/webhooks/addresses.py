"""Where a webhook may lead to: public addresses, and the networks that this site's operator named. Pure.

Who may name an address that we post to could else have us knock at what only we can reach. A name is judged by every
address that it has at the moment of connecting, not by the one it had when it was stored.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from yarl import URL

IpAddress = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

LONGEST_URL: Final = 2_000

# IANA's registries of special addresses, and what clouds keep for themselves among the others.
_RESERVED: Final = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host's own"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "behind a carrier's NAT"),
        ("127.0.0.0/8", "this host's own"),
        ("168.63.129.16/32", "of a cloud's own services"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host's own"),
        ("::1/128", "this host's own"),
        ("64:ff9b:1::/48", "of a local NAT64"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
# Resolvers read these as addresses, too (127.1, 0x7f000001): no host's name ends so.
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_UNICAST: Final = IPv6Network("2000::/3")  # what IANA has given out
_NAT64: Final = IPv6Network("64:ff9b::/96")


def why_not(address: IpAddress, allowed: Networks) -> str | None:
    """Why nothing is posted to this address; None when it may be."""
    meant = _meant(address)
    if any(meant in network for network in allowed):
        return None
    for network, what in _RESERVED:
        if meant in network:
            return f"{meant} is {what}"
    if isinstance(meant, IPv6Address) and meant not in _UNICAST:
        return f"{meant} is no public address"
    return None if meant.is_global else f"{meant} is no public address"


def _meant(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def parse(text: str) -> IpAddress | None:
    """An address as resolvers and sockets write it, a zone included."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def fault(url: str, *, plain: bool, allowed: Networks) -> str | None:
    """What is wrong with an address that somebody wants to have posted to. `plain`: http will do, too."""
    if len(url) > LONGEST_URL:
        return f"must have at most {LONGEST_URL} characters"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must be written in printable ASCII characters without spaces"
    try:
        parsed = URL(url)
        port = parsed.port
    except ValueError as error:
        return f"is no address: {error}"
    if parsed.scheme not in ({"https", "http"} if plain else {"https"}):
        return "must begin with https://"
    if not parsed.host or port is None:
        return "must name a host: https://example.com/hotsite"
    if parsed.user is not None or parsed.password is not None:
        return "must not have a name or a password in it; the signature tells that it is us"
    if parsed.raw_fragment:
        return "must not have a fragment (#…)"
    literal = parse(parsed.host)
    if literal is None and _NUMBER.fullmatch(parsed.host.rstrip(".").rpartition(".")[2]):
        return "names its host by numbers that are no IP address"
    reason = None if literal is None else why_not(literal, allowed)
    return None if reason is None else f"leads to an internal address: {reason}"
