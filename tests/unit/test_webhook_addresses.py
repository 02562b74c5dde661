"""Where nothing is posted to, whatever it is called."""

from ipaddress import ip_address, ip_network

import pytest

from dispatcher.webhooks.addresses import fault, parse, why_not


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3",  # noqa: S104 (nothing is bound) this host, in some systems
        "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",  # private
        "100.64.0.1", "100.100.100.200",  # a carrier's NAT; a cloud's metadata in it
        "127.0.0.1", "127.255.255.254",
        "169.254.0.1", "169.254.169.254", "169.254.170.2",  # link-local; metadata of most clouds
        "168.63.129.16",  # a cloud's own services at a public address
        "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",  # IPv4 in IPv6
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",  # through a NAT64
        "2002:7f00:1::", "2002:a00:1::1",  # 6to4
        "2001::1", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "5f00::1", "100::1",
        "fc00::1", "fd00:ec2::254", "fd20:ce::254",  # private; metadata of two clouds
        "fe80::1", "fec0::1", "ff02::1", "4000::1", "e000::1",
    ],
)  # fmt: skip
def test_an_internal_address_is_refused_with_a_reason(address: str) -> None:
    assert why_not(ip_address(address), ()) is not None


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert why_not(ip_address(address), ()) is None


def test_a_network_that_the_operator_named_is_allowed_also_as_ipv4_in_ipv6() -> None:
    allowed = [ip_network("10.1.9.0/24"), ip_network("fd00:9::/64")]
    assert why_not(ip_address("10.1.9.7"), allowed) is None
    assert why_not(ip_address("::ffff:10.1.9.7"), allowed) is None
    assert why_not(ip_address("fd00:9::1"), allowed) is None
    assert why_not(ip_address("10.1.8.7"), allowed) is not None


def test_an_address_with_a_zone_is_the_address() -> None:
    assert parse("fe80::1%eth0") == ip_address("fe80::1")
    assert parse("example.com") is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/", "https://"),
        ("ftp://example.com/", "https://"),
        ("example.com/hook", "https://"),
        ("https://", "host"),
        ("https:///hook", "host"),
        ("https://user@example.com/", "name or a password"),
        ("https://user:secret@example.com/", "name or a password"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com:99999/", "no address"),
        ("https://exa mple.com/", "spaces"),
        ("https://example.com/\r\nX: y", "printable"),
        ("https://bücher.example/", "ASCII"),
        ("https://127.0.0.1/", "internal"),
        ("https://[::1]/", "internal"),
        ("https://[::ffff:10.0.0.1]:8443/x", "internal"),
        ("https://169.254.169.254/latest/meta-data", "internal"),
        ("https://127.1/", "numbers"),
        ("https://2130706433/", "numbers"),
        ("https://0x7f000001/", "numbers"),
        ("https://0177.0.0.1/", "numbers"),
        ("https://example.com/" + "x" * 2_000, "at most 2000"),
    ],
)
def test_what_is_wrong_with_an_address_is_told(url: str, words: str) -> None:
    found = fault(url, plain=False, allowed=())
    assert found is not None
    assert words in found


@pytest.mark.parametrize("url", ["https://example.com", "https://example.com:8443/a?b=c", "https://1.1.1.1/"])
def test_a_good_address_is_taken(url: str) -> None:
    assert fault(url, plain=False, allowed=()) is None


def test_a_lab_takes_http_and_its_own_network() -> None:
    allowed = [ip_network("127.0.0.0/8")]
    assert fault("http://127.0.0.1:8000/hook", plain=True, allowed=allowed) is None
