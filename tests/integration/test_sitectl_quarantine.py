"""`sitectl node quarantine`: set-aside rows as an operator reads them, and messages offered again, each once."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sitecontrol import quarantine
from sitecontrol.cli.session import Exit
from sitecontrol.quarantine import Header, SetAside
from tests.api_server import KEY, OTHER_KEY, Api, serving, text
from tests.integration.test_sitectl import Said, sitectl
from tests.ports import free_port

CONFIG = """
[site]
name = "denver"
environment = "lab"
state_dir = "{folder}"
secrets_dir = "{folder}"
[etcd]
endpoints = ["http://127.0.0.1:9"]
[[place]]
name = "columbus"
dispatchers = [{{ name = "columbus-1", url = "http://127.0.0.1:{port}" }}]
[[place]]
name = "denver"
dispatchers = [{{ name = "denver-1", url = "http://127.0.0.1:{dead}" }}]
"""


def header(**changed: Any) -> Header:
    values: dict[str, Any] = {
        "at": datetime(2026, 11, 26, 12, 0, tzinfo=UTC), "node": "denver-a", "site": "denver", "system_id": "7",
        "incarnation": "disk", "term": 4, "leader": "columbus-a", "timeline": 1, "leader_timeline": 2,
        "fork_lsn": "0/3000148", "end_lsn": "0/3000800", "counts": {"message": 1}, "compared": True,
        "complete": True, "error": None,
    }  # fmt: skip
    return Header(**(values | changed))


def message(reference: str, *, account: str = "electric", withheld: str | None = None, **asked: Any) -> Any:
    request = text(reference=reference, **asked)
    row = {"recipient": request["to"], "body": request["body"]}
    return {"table": "message", "row": row, "account": account, "request": request, "withheld": withheld}


class Place:
    """A site's folder and its settings; dispatchers of its own do not answer."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = quarantine.folder_in(folder)
        self.config = folder / "denver.toml"
        self.config.write_text(CONFIG.format(folder=folder, port=port, dead=free_port()))

    def set_aside(self, *rows: Any, **changed: Any) -> SetAside:
        body = self.config.with_name("body")
        body.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return quarantine.read(quarantine.write(self.folder, header(**changed), body))

    async def sitectl(self, *words: str, typed: str = "", key: str = KEY) -> Said:
        key_file = self.config.with_name("key")
        key_file.write_text(f"{key}\n")
        named = ("--key-file", str(key_file)) if words[0] == "replay" else ()
        return await sitectl("node", "quarantine", *words, *named, config=self.config, typed=typed)

    def states(self) -> list[bool]:
        return [file.settled for file in quarantine.found(self.folder)]


def verdicts(said: Said) -> dict[str, str]:
    return {row["reference"]: row["verdict"] for row in said.document["messages"]}


async def stored(api: Api, reference: str) -> int:
    async with api.client.get("/v1/messages", params={"reference": reference}) as answer:
        return len((await answer.json())["messages"])


async def test_files_are_listed_and_shown_as_tables_and_as_json(tmp_path: Path) -> None:
    place = Place(tmp_path, free_port())
    assert "Nothing is set aside" in (await place.sitectl("list")).out
    file = place.set_aside(message("lost"), {"table": "event", "row": {}}, counts={"message": 1, "event": 1})
    place.set_aside(error="PostgreSQL did not start", counts={}, at=datetime(2026, 11, 27, tzinfo=UTC))
    listed = (await place.sitectl("list")).out
    assert file.name in listed
    assert "waits for you" in listed
    assert "PostgreSQL did not start" in listed
    shown = (await place.sitectl("show", file.name)).out
    assert "timeline 1 left the leader's (2) at 0/3000148" in shown
    assert "lost" in shown
    document = (await place.sitectl("list", "--json")).document
    assert [row["counts"] for row in document] == [{"message": 1, "event": 1}, {}]
    document = (await place.sitectl("show", file.name, "--json")).document
    assert [row["table"] for row in document["rows"]] == ["message", "event"]


async def test_a_dry_run_sends_nothing_and_tells_what_would_be_sent(tmp_path: Path) -> None:
    async with serving() as api:
        place = Place(tmp_path, api.port)
        file = place.set_aside(message("lost"))
        done = await place.sitectl("replay", file.name, "--dry-run", "--json")
        assert (done.code, verdicts(done)) == (Exit.DONE, {"lost": "would be sent"})
        assert await stored(api, "lost") == 0
        assert place.states() == [False]


async def test_a_replay_asks_for_the_number_and_sends_each_message_once(tmp_path: Path) -> None:
    async with serving() as api:
        place = Place(tmp_path, api.port)
        file = place.set_aside(
            message("lost"), message("there"), message("left", withheld="submitted: a carrier may have it")
        )
        async with api.client.post("/v1/messages", json=text(reference="there")) as answer:
            assert answer.status == 202
        refused = await place.sitectl("replay", file.name, typed="2\n")
        assert refused.code == Exit.REFUSED
        assert await stored(api, "lost") == 0
        done = await place.sitectl("replay", file.name, typed="1\n")
        assert done.code == Exit.DONE, done.err
        assert "1 accepted, 1 already there, 1 withheld" in done.out
        assert (await stored(api, "lost"), await stored(api, "left")) == (1, 0)
        assert place.states() == [True]
        again = await place.sitectl("replay", file.name, "--yes", "--json")
        assert verdicts(again) == {"lost": "already there", "there": "already there", "left": "withheld"}
        assert await stored(api, "lost") == 1


async def test_what_is_refused_is_told_with_the_reason_and_the_file_goes_on_waiting(tmp_path: Path) -> None:
    async with serving() as api:
        place = Place(tmp_path, api.port)
        file = place.set_aside(message("late", expires_at="2020-01-01T00:00:00Z"), message("good"))
        done = await place.sitectl("replay", file.name, "--yes", "--json")
        assert done.code == Exit.FAILED
        assert verdicts(done) == {"late": "refused", "good": "accepted"}
        assert "expires_at has passed" in done.document["messages"][0]["detail"]
        assert place.states() == [False]
        dry = await place.sitectl("settle", file.name, "--dry-run")
        assert (dry.code, place.states()) == (Exit.DONE, [False])
        assert f"{file.name} (1 message) would raise no alarm any more, and be kept as " in dry.out
        told = (await place.sitectl("settle", file.name, "--dry-run", "--json")).document
        assert (await place.sitectl("settle", file.name, "--json")).document["path"] == told["kept_as"]
        assert place.states() == [True]
        assert "is settled already" in (await place.sitectl("settle", file.name, "--dry-run")).out


async def test_messages_of_several_accounts_are_sent_with_the_key_of_each(tmp_path: Path) -> None:
    async with serving() as api:
        place = Place(tmp_path, api.port)
        file = place.set_aside(message("ours"), message("theirs", account="water", program="leaks"))
        asked = await place.sitectl("replay", file.name, "--yes")
        assert asked.code == Exit.USAGE
        assert "electric, water" in asked.err
        first = await place.sitectl("replay", file.name, "--account", "electric", "--yes", "--json")
        assert verdicts(first) == {"ours": "accepted", "theirs": "another account's"}
        assert place.states() == [False]
        second = await place.sitectl(
            "replay", file.name, "--account", "water", "--yes", "--json", key=OTHER_KEY
        )
        assert verdicts(second) == {"ours": "another account's", "theirs": "accepted"}


async def test_no_dispatcher_that_answers_leaves_the_outcome_open(tmp_path: Path) -> None:
    place = Place(tmp_path, free_port())
    file = place.set_aside(message("lost"))
    done = await place.sitectl("replay", file.name, "--yes", "--json")
    assert (done.code, verdicts(done)) == (Exit.TIMED_OUT, {"lost": "no answer"})
    assert place.states() == [False]


@pytest.mark.parametrize("words", [("show", "nothing"), ("replay", "nothing"), ("settle", "nothing")])
async def test_a_file_that_is_not_there_is_a_wrong_argument(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = await Place(tmp_path, free_port()).sitectl(*words)
    assert done.code == Exit.USAGE
    assert "`sitectl node quarantine list` shows them" in done.err
