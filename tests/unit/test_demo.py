"""The demo without a lab: the list it sends, what it makes of what it found, and how it exits."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Globals
from sitecontrol.drills.measure import Duplicates
from sitecontrol.lab import demo, outages
from sitecontrol.lab.demo_report import PAUSE_LIMIT, Findings, print_report
from sitecontrol.lab.errors import LabError, LabRefusedError
from sitecontrol.lab.outages import make_outages, read_outages
from sitecontrol.lab.ports import PortPlan

NOBODYS = re.compile(r"\+1[2-9]\d\d55501\d\d")  # 555-0100 to 555-0199: kept for fiction (ATIS-0300115, 5.1)

GOOD = Findings(
    customers=5_000,
    accepted=5_000,
    refused=12,
    unanswered=0,
    delivered=5_000,
    not_final=0,
    lost=0,
    in_doubt=3,
    doubles=Duplicates(copies=2, declared=2, undeclared=()),
    at_carriers=5_000,
    missing_at_carriers=0,
    unknown_at_carriers=0,
    stale=0,
    pause_s=1.5,
    two_site_again_s=6.0,
    home_again=True,
    missed=(),
)
BAD = {
    "one was not accepted": {"accepted": 4_999, "delivered": 4_999},
    "one was never answered": {"unanswered": 1},
    "one was not delivered": {"delivered": 4_999},
    "one is not final": {"not_final": 1},
    "one was lost": {"lost": 1},
    "one came twice, undeclared": {"doubles": Duplicates(copies=1, declared=0, undeclared=("r",))},
    "a carrier has one that nobody accepted": {"unknown_at_carriers": 1},
    "no carrier has one that was accepted": {"missing_at_carriers": 1},
    "a leader of the past acknowledged": {"stale": 1},
    "the pause was too long": {"pause_s": PAUSE_LIMIT + 0.01},
    "nobody was acknowledged": {"pause_s": None},
    "the sites did not come into step": {"two_site_again_s": None},
    "production did not come home": {"home_again": False},
    "the story did not go as told": {"missed": ("not within 30 s: denver is live",)},
}


# -- the list of outages -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def five_thousand(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("demo") / "outages.csv"
    make_outages(file, customers=5_000, seed=1)
    return file


def test_the_list_has_five_thousand_customers_with_numbers_that_belong_to_nobody(five_thousand):
    rows = list(csv.DictReader(five_thousand.read_text().splitlines()))
    assert len(rows) == 5_000
    assert all(NOBODYS.fullmatch(row["phone"]) for row in rows)
    for column in ("phone", "account"):
        assert len({row[column] for row in rows}) == 5_000


def test_the_same_seed_makes_the_same_list_and_another_seed_another(five_thousand, tmp_path):
    again, other = tmp_path / "again.csv", tmp_path / "other.csv"
    make_outages(again, customers=5_000, seed=1)
    make_outages(other, customers=5_000, seed=2)
    assert again.read_bytes() == five_thousand.read_bytes()
    assert other.read_bytes() != five_thousand.read_bytes()


def test_each_customer_gets_one_text_of_one_segment_with_the_account_in_it(five_thousand):
    texts = read_outages(five_thousand)
    assert len({text.reference for text in texts}) == len({text.body for text in texts}) == 5_000
    assert all(len(text.body) <= 160 for text in texts)
    assert all(text.body.endswith(text.reference.removeprefix("outage-")) for text in texts)


def test_a_list_that_cannot_be_made_is_told_in_one_line(tmp_path):
    with pytest.raises(LabError, match=r"make_outages\.py: .*No such file"):
        make_outages(tmp_path / "no" / "folder.csv", customers=1, seed=1)


HEADER = "account,name,phone,premises,circuit,cause,restored_by"
ROW = "70,Ada Kim,+12015550100,1 Elm St,BRW-01,storm damage,2026-03-14T18:30"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([HEADER, ROW, ROW.replace("2026-03-14T18:30", "soon")], "line 3: restored_by"),
        ([HEADER, ROW.replace("Ada Kim", "  ")], "line 2: name"),
        ([HEADER, ROW.replace("+12015550100", "")], "line 2: phone"),
        ([HEADER, ROW.rpartition(",")[0]], "line 2: restored_by"),
        ([HEADER, ROW + ",more"], "line 2: .*more columns"),
        ([HEADER.replace("account,", ""), ROW.replace("70,", "")], "line 2: account"),
        ([HEADER, ROW, ROW], "line 3: account 70 .*twice"),
        ([HEADER, ROW.replace("storm damage", "storm damage " * 12)], "line 2: .*160"),
        ([HEADER], "no customer"),
        ([], "no customer"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_what_is_wrong(tmp_path, lines, told):
    file = tmp_path / "outages.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(LabError, match=told):
        read_outages(file)


# -- what was found ----------------------------------------------------------------------------------------------


def printed(findings: Findings) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        print_report(console, findings, took=61.0)
    return capture.get()


def test_all_is_well_when_every_check_holds():
    assert GOOD.ok
    text = printed(GOOD)
    assert "Nothing was lost." in text
    assert "does not hold" not in text


def test_a_figure_that_is_only_told_is_not_called_a_check():
    lines = [line for line in printed(GOOD).splitlines() if "requests refused" in line or "in doubt" in line]
    assert len(lines) == 2
    assert not any("holds" in line for line in lines)


@pytest.mark.parametrize("what", BAD)
def test_each_thing_that_may_go_wrong_is_noticed_and_shown(what):
    findings = replace(GOOD, **BAD[what])
    assert not findings.ok
    text = printed(findings)
    assert "Not every check held." in text
    assert "Nothing was lost." not in text
    assert "does not hold" in text or findings.missed[0] in text


# -- how it exits ------------------------------------------------------------------------------------------------


class Lab:
    """In place of a lab: what was done with it."""

    def __init__(self, folder: Path) -> None:
        self.done: list[str] = []
        self.plan = SimpleNamespace(directory=SimpleNamespace(root=folder), ports=PortPlan(7_100))
        self.found: Findings | BaseException = GOOD

    def prepare(self, *_given: object, fresh: bool) -> SimpleNamespace:
        self.done.append("made anew" if fresh else "made")
        return self.plan

    async def tell_everybody(self, *_given) -> Findings:
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Lab:
    lab = Lab(tmp_path)
    monkeypatch.setattr(demo.startup, "prepare", lab.prepare)
    monkeypatch.setattr(demo, "start", lambda *_given, **_more: lab.done.append("started"))
    monkeypatch.setattr(demo, "bring_down", lambda _plan: lab.done.append("ended"))
    monkeypatch.setattr(demo, "_tell_everybody", lab.tell_everybody)
    return lab


def run(lab: Lab, *words: str) -> tuple[int, str]:
    folder = str(lab.plan.directory.root)
    result = CliRunner().invoke(
        sitectl, ["demo", "--customers", "3", *words, "--dir", folder], obj=Globals(), env={"NO_COLOR": "1"}
    )
    return result.exit_code, result.output


def test_a_demo_in_which_every_check_held_exits_with_0_and_leaves_nothing_running(lab):
    code, output = run(lab)
    assert code == 0
    assert lab.done == ["made anew", "started", "ended"]
    assert "--keep" in output
    assert "http://" not in output


@pytest.mark.parametrize("what", BAD)
def test_a_demo_in_which_one_check_did_not_hold_exits_with_1(lab, what):
    lab.found = replace(GOOD, **BAD[what])
    assert run(lab)[0] == 1
    assert lab.done[-1] == "ended"


def test_a_lab_that_is_kept_runs_on_whatever_was_found(lab):
    lab.found = replace(GOOD, lost=1)
    code, output = run(lab, "--keep")
    assert code == 1
    assert "ended" not in lab.done
    assert "lab down" in output
    pages = [line.split() for line in output.splitlines() if "http://" in line]
    assert pages == [["columbus", "http://127.0.0.1:7101/"], ["denver", "http://127.0.0.1:7111/"]]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LabError("the lab broke"), 1),
        (LabRefusedError("the lab is not whole"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_demo_that_cannot_go_on_ends_its_lab_and_exits_with_what_it_was(lab, error, code):
    lab.found = error
    told, output = run(lab)
    assert told == code
    assert "Traceback" not in output
    assert lab.done[-1] == "ended"


def test_a_demo_for_nobody_is_refused(lab):
    assert run(lab, "--customers", "0")[0] == 2
    assert lab.done == []


def test_the_script_is_missed_by_name_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(outages, "SCRIPT", tmp_path / "make_outages.py")
    with pytest.raises(LabRefusedError, match="checkout"):
        make_outages(tmp_path / "o.csv", customers=1, seed=1)
