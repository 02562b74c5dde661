"""`sitectl` against two real agents: what it prints, its JSON, its exit codes; and a site that cannot be reached."""

import asyncio
import getpass
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sitecontrol.cli import SITECTL
from sitecontrol.cli.session import Exit
from tests import schemas
from tests.agents import Pair
from tests.etcd import free_ports
from tests.sites import clean_environment

CLUSTER_KEYS = {
    "live_site", "leader", "term", "durability", "sync", "swap", "nodes", "members", "dispatchers", "paused",
    "paused_by", "paused_reason", "maintenance", "health", "told_by", "decision", "etcd_reached",
    "settings_differ", "retired", "bad_records", "invariants_broken", "etcd_alarm", "planned", "seen",
}  # fmt: skip
PHASES = ["checked", "held", "flushed", "handed", "promoted", "opened", "following", "in step"]


@dataclass(frozen=True, kw_only=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """With --json, stdout is one document and nothing else."""
        return json.loads(self.out)


async def sitectl(*words: str, config: Path, typed: str = "") -> Said:
    def call() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*SITECTL, *words, "--config", str(config)],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            env=clean_environment() | {"COLUMNS": "200"},
            check=False,
        )

    done = await asyncio.to_thread(call)
    assert "Traceback" not in done.stderr, done.stderr
    if "--json" in words and done.stdout:
        schemas.check(words, json.loads(done.stdout))
    return Said(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def config(pair: Pair) -> Path:
    return pair.columbus.config


@pytest.fixture
def nobody(pair: Pair) -> Path:
    """Settings whose agents do not exist."""
    text = pair.columbus.config.read_text()
    for site, port in zip(pair.sites, free_ports(2), strict=True):
        text = text.replace(
            f'agent = "http://127.0.0.1:{site.agent_port}"', f'agent = "http://127.0.0.1:{port}"'
        )
    path = pair.columbus.config.with_name("nobody.toml")
    path.write_text(text)
    return path


@pytest.fixture
def other(config: Path) -> Path:
    """Settings whose operator's token is not the agents'."""
    secrets = config.with_name("other-secrets")
    secrets.mkdir(exist_ok=True)
    (secrets / "operator-token").write_text("another")
    path = config.with_name("other.toml")
    path.write_text(config.read_text().replace(f"{config.parent}/secrets", str(secrets)))
    return path


# -- looking


async def test_status_tells_the_live_site_its_term_and_every_node(pair: Pair, config: Path):
    leader, standby, term = await pair.leads()
    said = await sitectl("status", config=config)
    assert said.code == Exit.DONE, said.err
    for word in (f"live site {leader.name}", f"term {term}", "two-site", leader.node, standby.node, "leader"):
        assert word in said.out
    as_json = await sitectl("status", "--json", config=config)
    before = await sitectl("--json", "status", config=config)
    assert set(as_json.document) == set(before.document) == CLUSTER_KEYS
    assert (as_json.document["leader"], as_json.document["term"]) == (leader.node, term)
    assert as_json.document["decision"]["rule"] in {"leads", "follows"}
    assert re.search(
        r"-a: (We lead and are open|Another node leads and we follow it)\.", " ".join(said.out.split())
    )
    assert as_json.err == ""


async def test_node_list_asks_every_agent_itself(pair: Pair, config: Path):
    leader, standby, _ = await pair.leads()
    said = await sitectl("node", "list", config=config)
    assert said.code == Exit.DONE, said.err
    assert leader.node in said.out
    rows = (await sitectl("node", "list", "--json", config=config)).document
    assert {row["node"]: (row["site"], row["reached"], row["role"]) for row in rows} == {
        leader.node: (leader.name, True, "leader"),
        standby.node: (standby.name, True, "standby"),
    }


async def test_with_one_agent_silent_the_other_tells_and_the_exit_code_says_degraded(
    pair: Pair, config: Path
):
    leader, standby, _ = await pair.leads()
    standby.kill()
    rows = await sitectl("node", "list", "--json", config=config)
    assert rows.code == Exit.DEGRADED
    assert {row["node"]: row["reached"] for row in rows.document} == {leader.node: True, standby.node: False}
    assert "silent" in (await sitectl("node", "list", config=config)).out
    assert (await sitectl("status", "--json", config=config)).document["leader"] == leader.node


async def test_history_tells_who_led_and_why_all_or_one_term(pair: Pair, config: Path):
    _, _, term = await pair.leads()
    said = await sitectl("history", "--json", config=config)
    assert said.code == Exit.DONE
    assert term in {entry["term"] for entry in said.document}
    (entry,) = (await sitectl("history", "1", "--json", config=config)).document
    assert {"kind", "term", "site", "node", "by", "reason", "at", "durations_ms"} <= set(entry)
    assert (await sitectl("history", "999999", "--json", config=config)).document == []
    table = (await sitectl("history", config=config)).out
    assert "when (UTC)" in table
    assert (await sitectl("history", "abc", config=config)).code == Exit.USAGE


async def test_the_audit_log_verifies_until_somebody_changes_what_it_seals(pair: Pair, config: Path):
    assert (await sitectl("pause", "--reason", "storm watch", config=config)).code == Exit.DONE
    said = await sitectl("audit", "--verify", config=config)
    assert said.code == Exit.DONE, said.err
    assert "are as they were written" in said.out
    assert "storm watch" in (await sitectl("audit", config=config)).out
    async with pair.keys() as etcd:
        key = f"{pair.prefix}desired"
        kept = (await etcd.get(key)).one
        assert kept is not None
        await etcd.put(key, kept.value.replace(b"storm watch", b"nothing at all"))
    said = await sitectl("audit", "--verify", config=config)
    assert said.code == Exit.FAILED
    assert "the audit log does not verify: desired was changed since entry" in said.err
    told = (await sitectl("audit", "--verify", "--json", config=config)).document
    assert [flaw["key"] for flaw in told["flaws"]] == ["desired"]
    assert (await sitectl("resume", config=config)).code == Exit.DONE  # written anew, and sealed
    assert (await sitectl("audit", "--verify", config=config)).code == Exit.DONE


async def test_why_tells_who_would_lead_how_soon_and_by_which_rules_the_agent_decided(
    pair: Pair, config: Path
):
    leader, standby, term = await pair.leads()

    async def would_lead() -> bool:
        said = await sitectl("why", "--json", config=config)
        return bool(said.document["site_lost"]["would_lead"] == [standby.node])

    await pair.until(would_lead, "the other site would lead")
    said = await sitectl("why", config=config)
    assert said.code == Exit.DONE, said.err
    assert f"If {leader.name} died now, {standby.node} would lead" in said.out
    mine = (await sitectl("why", standby.name, "--json", config=config)).document
    assert (mine["told_by"], mine["term"]) == (standby.node, term)
    assert "follows" in {d["rule"] for d in mine["decisions"]}
    assert (await sitectl("why", "cleveland", config=config)).code == Exit.USAGE
    standby.kill()

    async def nobody() -> bool:
        return (await sitectl("why", config=config)).code == Exit.DEGRADED

    await pair.until(nobody, "nobody would lead without the standby's agent")


# -- moving production


async def test_a_dry_run_tells_who_could_take_over_and_moves_nothing(pair: Pair, config: Path):
    _, standby, term = await pair.leads()
    said = await sitectl("swap", "--to", standby.name, "--dry-run", config=config)
    assert said.code == Exit.DONE, said.err
    assert f"{standby.node} could take over now" in said.out
    told = (await sitectl("swap", "--to", standby.name, "--dry-run", "--json", config=config)).document
    assert told == {
        "to": standby.node,
        "to_site": standby.name,
        "obstacles": [],
        "dry_run": True,
        "would": "swap",
    }
    assert (await pair.leads())[2] == term


async def test_a_swap_to_where_production_runs_is_refused_with_the_reason(pair: Pair, config: Path):
    leader, _, _ = await pair.leads()
    said = await sitectl("swap", "--to", leader.name, "--yes", "--json", config=config)
    assert said.code == Exit.REFUSED
    assert said.document["obstacles"]
    assert "The swap is refused" in said.err


async def test_a_site_that_does_not_exist_is_a_usage_error_before_anything_is_asked(pair: Pair, config: Path):
    said = await sitectl("swap", "--to", "cleveland", config=config)
    assert said.code == Exit.USAGE
    assert "columbus, denver" in said.err
    assert "Type the site's name" not in said.err
    assert (await sitectl("swap", config=config)).code == Exit.USAGE


@pytest.mark.parametrize("typed", ["yes\n", "\n\n", ""])
async def test_a_swap_that_is_not_confirmed_by_the_sites_name_moves_nothing(
    pair: Pair, config: Path, typed: str
):
    _, standby, term = await pair.leads()
    said = await sitectl("swap", "--to", standby.name, config=config, typed=typed)
    assert said.code == Exit.REFUSED
    assert "\nsitectl: not confirmed; nothing was changed" in said.err
    assert (await pair.leads())[2] == term
    assert "swap" not in await pair.read_keys()


async def test_a_confirmed_swap_shows_each_phase_and_one_with_json_only_its_record(pair: Pair, config: Path):
    home, away, term = await pair.leads()
    said = await sitectl(
        "swap", "--to", away.name, "--reason", "patching", config=config, typed=f"{away.name}\n"
    )
    assert said.code == Exit.DONE, said.err
    assert [line.strip() for line in said.out.splitlines() if line.startswith("  ")] == PHASES
    assert f"Production runs in {away.name}, term {term + 1}" in said.out
    await pair.until_two_site()
    back = await sitectl("swap", "--to", home.name, "--yes", "--json", config=config)
    assert back.code == Exit.DONE, back.err
    assert (back.document["kind"], back.document["term"]) == ("swap", term + 2)
    entry = next(e for e in await pair.history() if e["term"] == term + 1)
    assert (entry["kind"], entry["reason"]) == ("swap", "patching")
    table = (await sitectl("history", str(term + 1), config=config)).out
    assert "patching" in table


# -- automatic swaps off and on


async def test_pause_and_resume_are_kept_with_their_reason_and_shown_in_the_status(pair: Pair, config: Path):
    assert (await sitectl("pause", config=config)).code == Exit.USAGE  # without a reason
    said = await sitectl("pause", "--reason", "storm watch", "--json", config=config)
    assert said.code == Exit.DONE, said.err
    assert (said.document["paused"], said.document["paused_reason"]) == (True, "storm watch")

    async def shown() -> bool:
        said = await sitectl("status", config=config)
        return f"automatic swaps paused by {getpass.getuser()}: storm watch" in said.out

    await pair.until(shown, "the pause is in the status")
    said = await sitectl("resume", config=config)
    assert said.code == Exit.DONE, said.err
    assert "Automatic swaps are on" in said.out
    assert (await pair.read_keys())["desired"]["paused"] is False


async def test_a_wrong_operators_token_is_refused_and_a_missing_one_named(pair: Pair, other: Path):
    _, standby, term = await pair.leads()
    token = other.with_name("other-secrets") / "operator-token"
    for words in (["swap", "--to", standby.name, "--yes"], ["pause", "--reason", "x"], ["resume"]):
        said = await sitectl(*words, config=other)
        assert said.code == Exit.REFUSED, words
        assert "operator-token" in said.err
    await asyncio.to_thread(token.unlink)
    said = await sitectl("resume", config=other)
    assert said.code == Exit.USAGE
    assert "HOTSITE_SECRET_OPERATOR_TOKEN" in said.err
    assert (await pair.leads())[2] == term


# -- nobody there


async def test_agents_that_cannot_be_reached_are_named_with_an_exit_code_of_their_own(
    pair: Pair, nobody: Path
):
    for words in (
        ["status"],
        ["status", "--json"],
        ["history"],
        ["audit"],
        ["swap", "--to", "denver", "--yes"],
        ["pause", "--reason", "x"],
        ["resume"],
    ):
        said = await sitectl(*words, config=nobody)
        assert said.code == Exit.UNREACHABLE, words
        assert "no agent answers (asked http://127.0.0.1:" in said.err
        assert said.out == ""
    rows = await sitectl("node", "list", "--json", config=nobody)
    assert rows.code == Exit.DEGRADED
    assert [row["reached"] for row in rows.document] == [False, False]
