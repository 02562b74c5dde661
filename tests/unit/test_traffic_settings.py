"""`[traffic]`: what cannot move clients is refused, with its line and what would do."""

from pathlib import Path

import pytest

from sitecontrol.settings import Secrets, Settings, SettingsError, load
from sitecontrol.traffic.adapters import adapters_of

ROOT = Path(__file__).parents[2]
GOOD = """\
[site]
name = "columbus"
state_dir = "/var/lib/hotsite"
secrets_dir = "/etc/hotsite/secrets"
[etcd]
endpoints = ["http://10.1.0.1:2379"]
[[place]]
name = "columbus"
dispatchers = [{ name = "columbus-dispatcher-1", url = "http://10.1.0.11:8080" }]
[[place]]
name = "denver"
dispatchers = [{ name = "denver-dispatcher-1", url = "http://10.2.0.11:8080" }]
[[place]]
name = "witness"
kind = "witness"
[traffic]
check_every = 20.0
[traffic.haproxy]
sockets = ["/run/haproxy/admin.sock", "10.1.0.20:9999"]
[traffic.dns]
server = "10.1.0.53:53"
zone = "example.net"
record = "texts.example.net"
key_name = "hotsite"
addresses = { columbus = ["203.0.113.10"], denver = ["198.51.100.10", "2001:db8::10"] }
[traffic.command]
argv = ["/usr/local/bin/move-traffic"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "columbus.toml"


def loaded(file: Path, text: str = GOOD) -> Settings:
    file.write_text(text)
    return load(file)


def mistake(file: Path, old: str, new: str) -> str:
    """The one line of the refusal, without the name of the file."""
    assert GOOD.count(old) == 1
    with pytest.raises(SettingsError) as refusal:
        loaded(file, GOOD.replace(old, new))
    [line] = str(refusal.value).splitlines()
    return line.removeprefix(f"{file}:")


def test_the_adapters_are_those_that_the_settings_name(file: Path) -> None:
    secrets = Secrets(file.parent, {"HOTSITE_SECRET_TRAFFIC_DNS_KEY": "c2VzYW1l"})
    assert [a.name for a in adapters_of(loaded(file), secrets)] == ["haproxy", "dns", "command"]
    assert adapters_of(loaded(file, GOOD.partition("[traffic]")[0]), secrets) == []


@pytest.mark.parametrize("site", ["columbus", "denver"])
def test_what_the_shipped_settings_suggest_is_in_order_as_soon_as_it_is_no_comment(
    file: Path, site: str
) -> None:
    text = (ROOT / "configs" / f"{site}.toml").read_text()
    before, suggested = text.split("# [traffic]\n")
    block, after = suggested.split("[security]", 1)
    block = "".join(line.removeprefix("# ").removeprefix("#") for line in block.splitlines(keepends=True))
    traffic = loaded(file, f"{before}[traffic]\n{block}[security]{after}").traffic
    assert None not in (traffic.haproxy, traffic.dns, traffic.command)


def test_the_key_is_a_secret_and_its_absence_is_told_with_the_cure(file: Path) -> None:
    settings = loaded(file)
    with pytest.raises(
        SettingsError, match=r"'traffic-dns-key' is missing: put it into .* or set HOTSITE_SECRET"
    ):
        adapters_of(settings, Secrets(file.parent, {}))
    with pytest.raises(SettingsError, match="no TSIG key: it must be base64"):
        adapters_of(settings, Secrets(file.parent, {"HOTSITE_SECRET_TRAFFIC_DNS_KEY": "ses"}))


@pytest.mark.parametrize(
    ("old", "new", "at", "told"),
    [
        (
            '"10.1.0.53:53"',
            '"ns.example.net:53"',
            "server =",
            'dns.server = "ns.example.net:53": name the server by its IP address; for example: "10.1.0.53:53"',
        ),
        (
            '"texts.example.net"',
            '"texts.example.org"',
            "record =",
            'dns.record = "texts.example.org": is not in zone example.net; for example: "texts.example.net"',
        ),
        (
            '"texts.example.net"',
            '"notexample.net"',
            "record =",
            'dns.record = "notexample.net": is not in zone example.net; for example: "texts.example.net"',
        ),
        (
            '["203.0.113.10"]',
            '["edge"]',
            "addresses =",
            "dns.addresses.columbus[0] = \"edge\": 'edge' does not appear to be an IPv4 or IPv6 address; for example:",
        ),
        ("denver = [", "boulder = [", "addresses =", "dns.addresses.boulder"),
        ('columbus = ["203.0.113.10"], ', "", "addresses =", "dns.addresses"),
        (
            'argv = ["/usr/local/bin/move-traffic"]',
            'argv = ["move-traffic"]',
            "argv =",
            'command.argv[0] = "move-traffic": name the program by its whole path; for example: "/usr/local/bin/',
        ),
        (
            'argv = ["/usr/local/bin/move-traffic"]',
            "argv = []",
            "argv =",
            "command.argv = []: must be a list, each text in quotes, at least 1 of them",
        ),
        (
            "check_every = 20.0",
            "check_evry = 20.0",
            "check_every =",
            "check_evry: there is no such setting; did you mean check_every?",
        ),
        (
            '"/run/haproxy/admin.sock", ',
            '"admin.sock", ',
            "sockets =",
            'haproxy.sockets[0] = "admin.sock": must be the path of a socket, or HOST:PORT, in quotes',
        ),
        ('key_name = "hotsite"\n', "", "[traffic.dns]", 'dns.key_name is missing; add: key_name = "'),
    ],
)
def test_what_cannot_move_clients_is_told_with_its_line_and_the_cure(
    file: Path, old: str, new: str, at: str, told: str
) -> None:
    line = GOOD[: GOOD.index(at)].count("\n") + 1
    assert mistake(file, old, new).startswith(f"{line}: traffic.{told}")


def test_haproxy_needs_the_dispatchers_of_every_site(file: Path) -> None:
    line = mistake(
        file, 'dispatchers = [{ name = "denver-dispatcher-1", url = "http://10.2.0.11:8080" }]\n', ""
    )
    assert "traffic.haproxy" in line
    assert line.endswith("names no dispatchers of denver; add a section [[place.dispatchers]] for each")


def test_each_site_needs_addresses_and_nothing_else_has_any(file: Path) -> None:
    assert (
        'lacks columbus; give its addresses in a section [traffic.dns.addresses]: columbus = ["'
        in mistake(file, 'columbus = ["203.0.113.10"], ', "")
    )
    line = mistake(file, "denver = [", 'denver = ["192.0.2.1"], witness = [')
    assert "traffic.dns.addresses.witness" in line
    assert "is no site; the sites are: columbus, denver" in line


@pytest.mark.parametrize("name", ["texts..example.net", "", "-a.example.net", "a b.example.net", "x" * 64])
def test_what_is_no_domain_name_is_refused(file: Path, name: str) -> None:
    line = mistake(file, 'record = "texts.example.net"', f'record = "{name}"')
    assert "must be a domain name in quotes" in line
