"""What `sitectl lab up` refuses before anything is started: each in one line with the cure, as a usage error."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.lab.arguments import CarrierType
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.plan import ExternalCarrier
from sitecontrol.lab.startup import refuse_unknown_hosts
from tests.drills.test_configs import plan_in


def sitectl_in(folder: Path, *words: str) -> Result:
    """Nothing is ever started: the folder holds something else, so what passes the arguments is refused there."""
    (folder / "thesis.tex").write_text("precious")
    return CliRunner().invoke(sitectl, [*words, "--dir", str(folder)])


def up(folder: Path, *words: str) -> Result:
    return sitectl_in(folder, "lab", "up", *words)


def assert_usage(result: Result, *words: str) -> None:
    assert result.exit_code == Exit.USAGE, result.output
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a=h:99999", ("PORT is '99999'", "1 to 65535", "for example: main=hotsite@127.0.0.1:2775")),
        ("a=h:0", ("PORT is '0'",)),
        ("a=h:12x", ("PORT is '12x'",)),
        ("a=h:\u0663", ("PORT is",)),
        ("a=h:", ("PORT is ''",)),
        ("a=h", ("NAME=[SYSTEM_ID@]HOST:PORT",)),
        ("h:2775", ("NAME=[SYSTEM_ID@]HOST:PORT",)),
        ("A=h:2775", ("NAME is 'A'",)),
        ("=h:2775", ("NAME is ''",)),
        ("a=:2775", ("HOST is ''",)),
        ("a=h h:2775", ("HOST is 'h h'",)),
        ("a=-h:2775", ("HOST is '-h'",)),
        ("a=::1:2775", ("HOST is '::1'",)),
        ("a=[::x]:2775", ("HOST is '[::x]'", "an IPv6 address in brackets")),
        ("a=@h:2775", ("SYSTEM_ID is ''",)),
        ("a=a-name-of-sixteen@h:2775", ("SYSTEM_ID is",)),
    ],
)
def test_a_carrier_that_cannot_be_is_refused(tmp_path: Path, value: str, words: tuple[str, ...]) -> None:
    assert_usage(up(tmp_path, "--carrier", value), "--carrier", *words)


@pytest.mark.parametrize(
    ("value", "carrier"),
    [
        ("main=127.0.0.1:2775", ExternalCarrier(name="main", host="127.0.0.1", port=2775)),
        ("six=[::1]:2775", ExternalCarrier(name="six", host="::1", port=2775)),
        ("b-2=me@smpp.example.com:65535",
         ExternalCarrier(name="b-2", host="smpp.example.com", port=65_535, system_id="me")),
    ],
)  # fmt: skip
def test_a_carrier_that_can_be_is_taken(value: str, carrier: ExternalCarrier) -> None:
    assert CarrierType().convert(value, None, None) == carrier


def test_two_carriers_of_one_name_and_more_than_fit_are_refused(tmp_path: Path) -> None:
    assert_usage(up(tmp_path, "--carrier", "a=h:1", "--carrier", "a=i:1"), "'a'", "name of its own")
    five = [word for i in range(5) for word in ("--carrier", f"c{i}=h:{i + 1}")]
    assert_usage(up(tmp_path, *five), "at most 4")


@pytest.mark.parametrize("base", ["1023", "65437", "65535", "0", "-1", "x", "99999"])
def test_a_base_port_is_refused_unless_all_hundred_ports_exist_and_need_no_root(
    tmp_path: Path, base: str
) -> None:
    assert_usage(up(tmp_path, "--base-port", base), "--base-port", "for example: 7100")


@pytest.mark.parametrize("base", ["1024", "65436"])
def test_the_lowest_and_the_highest_base_port_pass(tmp_path: Path, base: str) -> None:
    result = up(tmp_path, "--base-port", base)
    assert result.exit_code == Exit.REFUSED
    assert "not empty and not a lab" in result.stderr


@pytest.mark.parametrize("delay", ["-1", "10001", "nan", "inf", "x"])
def test_a_delay_is_an_amount(tmp_path: Path, delay: str) -> None:
    assert_usage(up(tmp_path, "--wan-ms", delay), "--wan-ms")


@pytest.mark.parametrize("words", [["--dispatchers", "6"], ["--simulators", "0"], ["--timeout", "-1"],
                                   ["--timeout", "nan"]])  # fmt: skip
def test_other_numbers_have_their_ranges(tmp_path: Path, words: list[str]) -> None:
    assert_usage(up(tmp_path, *words), words[0])


@pytest.mark.parametrize("words", [["--base-port", "65437"], ["--customers", "0"]])
def test_the_demo_has_the_same_ranges(tmp_path: Path, words: list[str]) -> None:
    assert_usage(sitectl_in(tmp_path, "demo", *words), words[0])


def test_a_carrier_whose_name_has_no_address_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    carrier = {"name": "mine", "host": "smsc.invalid", "port": 2775}
    with pytest.raises(LabRefusedError, match=r"mine: smsc\.invalid has no address here .* give its IP"):
        refuse_unknown_hosts(plan_in(tmp_path / "lab", carriers=[carrier]))
