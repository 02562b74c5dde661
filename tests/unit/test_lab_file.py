"""The file of a lab: what it sets, what goes before it, and every mistake with its line and the cure."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.lab import startup
from sitecontrol.lab.lab_file import read_lab_file
from sitecontrol.lab.plan import ExternalCarrier, Kind, LabOptions
from sitecontrol.settings import Durability, SettingsError
from tests.drills.test_configs import CONFIGS, plan_in, rendered

SHIPPED = CONFIGS / "lab.toml"


def lab_file(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_the_shipped_file_is_what_a_lab_is_without_one() -> None:
    wanted = LabOptions.model_validate(read_lab_file(SHIPPED).options())
    plain = LabOptions()
    left_out = {"failover", "dispatcher"}  # of which a lab without a file has what the settings have
    assert wanted.model_dump(exclude=left_out) == plain.model_dump(exclude=left_out)


def test_a_lab_by_the_shipped_file_has_the_settings_of_one_without(tmp_path: Path) -> None:
    by_file = rendered(plan_in(tmp_path / "lab", **read_lab_file(SHIPPED).options()))
    without = rendered(plan_in(tmp_path / "lab"))
    assert by_file == without


def test_what_the_file_sets_reaches_both_sites_and_the_simulators(tmp_path: Path) -> None:
    text = """
[lab]
base_port = 9100
wan_ms = 5
[simulator]
receipt_outcome = "DELIVRD=9,UNDELIV=1"
rate = 12.5
[failover]
lease_ttl = 4
[dispatcher]
durability = "strict"
hold_for = 7
"""
    options = read_lab_file(lab_file(tmp_path, text)).options()
    plan = plan_in(tmp_path / "lab", **options)
    assert (plan.ports.base, plan.lab.options.wan_ms, plan.lab.options.dispatchers) == (9100, 5.0, 2)
    places = rendered(plan)
    for site in ("columbus", "denver"):
        assert places[site].failover.lease_ttl == 4
        dispatcher = places[site].dispatcher
        assert (dispatcher.durability, dispatcher.hold_for, dispatcher.doubt_grace) == (
            Durability.STRICT,
            7.0,
            10.0,
        )
        assert dispatcher.consent == "assumed"
    (argv, *_) = [p.argv for p in plan.processes if p.kind is Kind.CARRIER]
    given = dict(zip(argv[3::2], argv[4::2], strict=True))
    assert given["--receipt-outcome"] == "DELIVRD=9,UNDELIV=1"
    assert (given["--rate"], given["--receipt-delay-ms"]) == ("12.5", "50.0")


def test_a_carrier_of_ones_own_replaces_the_simulators(tmp_path: Path) -> None:
    text = '[lab]\n[[carrier]]\nname = "mine"\naddress = "127.0.0.1:2775"\n'
    (carrier,) = read_lab_file(lab_file(tmp_path, text)).options()["carriers"]
    assert carrier == ExternalCarrier(name="mine", host="127.0.0.1", port=2775)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[lab]\nbase_port = 65437\n",
            "mine.toml:2: lab.base_port = 65437: must be a whole number, at least 1024",
        ),
        ("[lab]\nwan_mss = 3\n", "mine.toml:2: lab.wan_mss: there is no such setting; did you mean wan_ms?"),
        ("[lab]\nwan_ms = nan\n", "mine.toml:2: lab.wan_ms"),
        ("[lab]\n[simulator]\nreceipt_outcome = 'LOST'\n", "DELIVRD=9,UNDELIV=1"),
        ("[lab]\n[[carrier]]\nname = 'a'\naddress = 'h:99999'\n", "mine.toml:4: carrier[0].address"),
        (
            "[lab]\n[failover]\nlease_margin = 0.01\n",
            "failover.lease_margin = 0.01: fence-before-promotion does not hold",
        ),
        (
            "[lab]\nwan_ms = 80\n",
            "lab.wan_ms = 80: [failover] is made for a round trip of at most 50 ms",
        ),
        (
            "[lab]\n[failover]\nprofile = 'wide'\n",
            """failover.profile = "wide": must be "lab", "metro", or "cross-country\"""",
        ),
        ("[lab]\n[dispatcher]\nconsent = 'required'\n", "dispatcher.consent: a lab decides that itself"),
        ("[[carrier]]\nname = 'a'\naddress = 'h:1'\n", "lab is missing; add a section [lab]"),
        ("[lab]\n" + "[[carrier]]\nname = 'a'\naddress = 'h:1'\n" * 2, "two are called 'a'"),
        ("[lab\n", "mine.toml:1: not TOML"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_cure(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_lab_file(lab_file(tmp_path, text))
    assert said in str(refusal.value)


def test_up_refuses_a_wrong_file_as_a_usage_error_and_makes_nothing(tmp_path: Path) -> None:
    file = lab_file(tmp_path, "[lab]\nsimulators = 9\n")
    words = ["lab", "up", "--config", str(file), "--dir", str(tmp_path / "lab")]
    told = CliRunner().invoke(sitectl, words)
    assert told.exit_code == Exit.USAGE
    assert "mine.toml:2: lab.simulators = 9" in told.stderr
    assert not (tmp_path / "lab").exists()


def test_a_flag_goes_before_the_file_and_the_file_before_what_the_lab_was_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def prepare(_directory: Path, wanted: dict[str, object], _passwords: object, *, fresh: bool) -> None:
        assert not fresh
        asked.append(wanted)
        raise startup.LabRefusedError("enough seen")

    monkeypatch.setattr(startup, "prepare", prepare)
    file = lab_file(tmp_path, "[lab]\nwan_ms = 5.0\nsimulators = 1\nrestart = false\n")
    words = ["lab", "up", "--config", str(file), "--dir", str(tmp_path / "lab"), "--wan-ms", "9"]
    assert CliRunner().invoke(sitectl, words).exit_code == Exit.REFUSED
    assert asked == [{"wan_ms": 9.0, "simulators": 1, "restart": False}]


def test_config_check_knows_a_labs_file(tmp_path: Path) -> None:
    told = CliRunner().invoke(sitectl, ["config", "check", str(SHIPPED), "--json"])
    document = json.loads(told.stdout)
    assert all(timing["holds"] for timing in document.pop("timings"))
    assert document == {"file": str(SHIPPED), "site": None, "ok": True}
    assert "for a lab" in CliRunner().invoke(sitectl, ["config", "check", str(SHIPPED)]).stdout
    wrong = CliRunner().invoke(sitectl, ["config", "check", str(lab_file(tmp_path, "[lab]\nx = 1\n"))])
    assert wrong.exit_code == Exit.USAGE
    assert "mine.toml:2: lab.x: there is no such setting" in wrong.stderr


def test_a_profile_reaches_both_sites_and_what_is_set_beside_it_goes_before_it(tmp_path: Path) -> None:
    text = '[lab]\nwan_ms = 70\n[failover]\nprofile = "cross-country"\nlease_ttl = 5\n'
    plan = plan_in(tmp_path / "lab", **read_lab_file(lab_file(tmp_path, text)).options())
    for site in ("columbus", "denver"):
        failover = rendered(plan)[site].failover
        assert (failover.profile, failover.lease_ttl, failover.canary_max_age) == ("cross-country", 5, 2.0)
