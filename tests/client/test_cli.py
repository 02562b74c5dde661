"""`hotsite-send`, as a utility's cron job or operator runs it."""

import asyncio
import csv
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from hotsite_client import cli
from hotsite_client.cli import HELP, Tally, main
from tests.api_server import KEY, Api
from tests.client.sites import breaks_after, cuts, passes, says, site
from tests.client.test_calls import stored

TEMPLATE = "Power is out on {street}."


@pytest.fixture(autouse=True)
def the_servers_log_is_kept_apart() -> Iterator[None]:
    """It runs in this process, and would write into what the command prints."""
    with capture_logs():
        yield


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "outage.csv"
    path.write_text("to,street\n" + "".join(f"+16145550{n:03},Elm St {n}\n" for n in range(100, 110)))
    (tmp_path / "key").write_text(f"{KEY}\n")
    return path


async def run(
    sheet: Path, *urls: str, more: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> Result:
    addresses = [word for url in urls for word in ("--url", url)]
    words = [
        str(sheet),
        "--program",
        "outages",
        "--template",
        TEMPLATE,
        "--key-file",
        str(sheet.parent / "key"),
    ]
    return await asyncio.to_thread(CliRunner().invoke, main, [*words, *addresses, *more], env=env)


def summary(result: Result) -> dict[str, Any]:
    document = json.loads(result.stdout)
    return {
        name: document[name] for name in ("rows", "accepted", "duplicate", "refused", "unknown", "not_sent")
    }


async def test_a_file_is_sent_and_run_again_nothing_is_sent_twice(api: Api, sheet: Path):
    first = await run(sheet, api.url)
    assert first.exit_code == 0, first.output
    assert "10 rows read, batch 'outage.csv'" in first.stdout
    assert "10 accepted, 10 of them on disk at both sites" in first.stdout
    again = await run(sheet, api.url)
    assert again.exit_code == 0
    assert "10 of these were accepted before and not sent anew" in again.stdout
    assert len(await stored(api)) == 10


async def test_a_run_that_broke_is_gone_on_with(api: Api, sheet: Path):
    async with site(api, breaks_after(3), cuts) as bad:
        broken = await run(sheet, bad.url, more=("--json", "--timeout", "3"))
    assert broken.exit_code == 4
    told = summary(broken)
    assert told == {"rows": 10, "accepted": 3, "duplicate": 0, "refused": 0, "unknown": 7, "not_sent": 0}
    whole = await run(sheet, api.url, more=("--json",))
    assert summary(whole) == {**told, "accepted": 10, "duplicate": 10, "unknown": 0}
    assert len(await stored(api)) == 10


async def test_a_changed_text_in_the_same_batch_texts_nobody_twice(api: Api, sheet: Path):
    await run(sheet, api.url)
    other = await run(sheet, api.url, more=("--template", "It is back, {street}."))
    assert other.exit_code == 3
    assert "was accepted before with another text" in other.stderr
    assert len(await stored(api)) == 10
    assert (
        await run(sheet, api.url, more=("--template", "It is back, {street}.", "--batch", "b"))
    ).exit_code == 0
    assert len(await stored(api)) == 20


async def test_bad_rows_are_returned_and_the_good_ones_go_on(api: Api, sheet: Path):
    text = sheet.read_text() + "614-555-0100,Oak St\n+16145550111\n+16145550112,Fir\x07St\n+16145550113,\n"
    sheet.write_text(text)
    rejects = sheet.parent / "rejects.csv"
    result = await run(sheet, api.url, more=("--rejects", str(rejects), "--json"))
    assert result.exit_code == 3
    assert summary(result)["accepted"] == 10
    with rejects.open(newline="") as file:
        told = [(row["error_line"], row["error_column"], row["street"]) for row in csv.DictReader(file)]
    assert told == [("12", "to", "Oak St"), ("13", "", ""), ("15", "street", ""), ("14", "body", "Fir\x07St")]
    assert f"{sheet}:14: body: holds the control character U+0007" in result.stderr
    rejects.write_text("to,street,error_line,error_column,error_reason\n+16145550100,Oak St,12,to,why\n")
    assert (await run(rejects, api.url)).exit_code == 0


async def test_a_hundred_bad_rows_do_not_fill_the_terminal(api: Api, sheet: Path):
    sheet.write_text(sheet.read_text() + "12,Elm St\n" * 100)
    result = await run(sheet, api.url)
    assert len(result.stderr.splitlines()) == 21
    assert "and 80 more refused rows: --rejects FILE gets them all" in result.stderr


async def test_a_dry_run_needs_neither_key_nor_site_and_shows_the_first_text(sheet: Path):
    sheet.write_text(sheet.read_text() + "12,Elm St\n")
    words = [str(sheet), "--program", "outages", "--template", TEMPLATE, "--dry-run"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 3
    assert "dry run: 10 of 11 rows would be sent, 1 are bad" in result.stdout
    assert "the first: +16145550100: Power is out on Elm St 100." in result.stdout


async def test_the_same_row_twice_is_sent_once(api: Api, sheet: Path):
    sheet.write_text("to,street\n" + "+16145550100,Elm St\n" * 3)
    result = await run(sheet, api.url, more=("--json",))
    assert (summary(result)["accepted"], summary(result)["duplicate"]) == (3, 2)
    assert len(await stored(api)) == 1


async def test_no_site_is_code_5_and_nothing_is_unknown(sheet: Path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        result = await run(sheet, f"http://127.0.0.1:{closed.getsockname()[1]}", more=("--timeout", "1"))
    assert result.exit_code == 5
    assert "10 not sent" in result.stdout
    assert "run the same command again to go on" in result.stderr


async def test_a_key_that_is_not_known_is_code_3_with_hotsites_words(api: Api, sheet: Path):
    (sheet.parent / "key").write_text("wrong")
    result = await run(sheet, api.url)
    assert result.exit_code == 3
    assert "this key is not known, has expired, or was revoked" in result.stderr


async def test_the_key_may_come_from_the_environment_and_is_never_shown(api: Api, sheet: Path):
    async with site(api, passes) as only:
        words = [str(sheet), "--program", "outages", "--body-column", "street", "--url", only.url]
        result = await asyncio.to_thread(CliRunner().invoke, main, words, env={"HOTSITE_KEY": KEY})
        assert result.exit_code == 0, result.output
    async with site(api, says(401, "unauthorized")) as only:
        refused = await run(sheet, only.url)
    assert KEY not in result.output + refused.output


async def test_a_program_that_there_is_not_is_told_for_each_row(api: Api, sheet: Path):
    result = await run(sheet, api.url, more=("--program", "outage"))
    assert result.exit_code == 3
    assert (
        f"{sheet}:2: program: is no program of this account; what it may send under: outages" in result.stderr
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((), "both sites' addresses"),
        (("--url", "columbus.example"), "no address such as"),
        (("--url", "http://columbus.example"), "plain http shows the key"),
        (("--url", "https://a.example", "--body-column", "street"), "give the texts once"),
        (
            ("--url", "https://a.example", "--to-column", "phone"),
            "there is no column 'phone'; the file has to, street",
        ),
        (("--url", "https://a.example", "--template", "{road}"), "there is no column 'road'"),
        (("--send-at", "tomorrow"), "is no time with its zone"),
        (("--expires-at", "2026-01-31T17:00:00"), "is no time with its zone"),
        (("--delimiter", ";;"), "is not one character"),
        (("--encoding", "utf-9"), "is not known"),
        (("--batch", "x" * 61), "1 to 60 printable characters"),
        (("--timeout", "0"), "not in the range"),
        (("--class", "urgent"), "emergency"),
        (("--nonsense",), "No such option"),
    ],
)
async def test_what_was_asked_wrongly_is_code_2_with_the_cure(sheet: Path, more: tuple[str, ...], told: str):
    result = await run(sheet, more=more)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


async def test_the_file_itself_is_not_overwritten_by_its_rejects(sheet: Path):
    result = await run(sheet, "https://a.example", more=("--rejects", str(sheet)))
    assert result.exit_code == 2
    assert sheet.read_text().startswith("to,street")


async def test_rejects_that_cannot_be_written_are_code_1(sheet: Path):
    result = await run(sheet, "https://a.example", more=("--rejects", str(sheet.parent / "none" / "r.csv")))
    assert result.exit_code == 1
    assert "No such file" in result.stderr


async def test_a_file_that_is_not_of_its_encoding_is_told(sheet: Path):
    result = await run(sheet, "https://a.example", more=("--encoding", "utf-16"))
    assert result.exit_code in {1, 2}
    assert "utf-16" in result.stderr


async def test_ctrl_c_ends_it_with_what_was_done(api: Api, sheet: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hotsite_client.cli.csv_rows.message", interrupted)
    result = await run(sheet, api.url)
    assert result.exit_code == 130
    assert "stopped before the end: interrupted" in result.stderr


def test_the_readme_names_the_keys_of_the_summary_and_the_exit_codes():
    readme = (Path(cli.__file__).parents[1] / "README.md").read_text()
    (told,) = re.findall(r"^`--json`: (.*?)\n\n", readme, re.DOTALL | re.MULTILINE)
    tally = Tally(file="f", program="p", batch="b", dry_run=False)
    assert set(re.findall(r"`(\w+)`", told)) == set(tally.as_json())
    codes = re.findall(r"^\| (\d+) \| \w", readme, re.MULTILINE)
    assert codes == re.findall(r"\b(\d+) [a-zA-Z]", HELP.partition("Exit codes:")[2])


def test_the_help_tells_exit_codes_and_no_option_takes_the_key():
    done = subprocess.run(
        [sys.executable, "-m", "hotsite_client.cli", "--help"], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": "clients/python", "COLUMNS": "100"}, cwd=Path(__file__).parents[2], timeout=60,
    )  # fmt: skip
    assert "Exit codes: 0 all rows accepted" in done.stdout
    assert "--key " not in done.stdout
