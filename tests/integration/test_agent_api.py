"""The agent's HTTP API: health for load balancers, metrics, the cluster, an operator's acts, and who may act."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.agents import Pair
from tests.sites import TOKEN, Site, clean_environment, command

OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


async def code(site: Site, path: str) -> int:
    return (await site.ask(path))[0]


async def test_each_health_path_tells_a_load_balancer_who_leads_and_who_could(pair: Pair):
    leader, standby, term = await pair.leads()
    assert [await code(leader, path) for path in ("/health", "/ready", "/live", "/standby")] == [
        200,
        200,
        200,
        503,
    ]
    assert [await code(standby, path) for path in ("/health", "/ready", "/live", "/standby")] == [
        200,
        200,
        503,
        200,
    ]
    assert await leader.ask("/live") == (200, {"live": True, "term": term})
    assert await standby.ask("/live") == (503, {"live": False, "term": term})
    assert await leader.ask("/ready") == (200, {"ready": True, "reasons": []})
    assert await standby.ask("/standby") == (200, {"standby": True})


async def test_a_standby_whose_postgresql_is_gone_is_neither_ready_nor_a_standby_and_says_why(pair: Pair):
    leader, standby, _ = await pair.leads()
    standby.hang()
    await standby.kill_postgres()
    standby.resume()

    async def told() -> list[str]:
        status, answer = await standby.ask("/ready")
        return answer["reasons"] if status == 503 else []

    assert await pair.until(told, "it is not ready")
    assert await code(leader, "/live") == 200


async def test_metrics_are_prometheus_text_and_say_the_same_as_the_status(pair: Pair):
    leader, standby, term = await pair.leads()
    seen = {}
    for site in (leader, standby):
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{site.agent_port}/metrics") as answer,
        ):
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            families = list(text_string_to_metric_families(await answer.text()))
        seen[site.node] = {
            (sample.name, *sample.labels.values()): sample.value for f in families for sample in f.samples
        }
    mine, other = seen[leader.node], seen[standby.node]
    assert (mine["hotsite_agent_live",], other["hotsite_agent_live",]) == (1.0, 0.0)
    assert mine["hotsite_term",] == other["hotsite_term",] == term
    assert mine["hotsite_two_site",] == mine["hotsite_agent_ready",] == 1.0
    assert (mine["hotsite_postgres_state", "primary"], other["hotsite_postgres_state", "standby"]) == (
        1.0,
        1.0,
    )
    assert mine["hotsite_canary_age_seconds",] >= 0
    assert len([key for key in mine if key[0] == "hotsite_standby_lag_bytes"]) == 1


async def test_a_leader_tells_how_far_a_held_standby_falls_behind_in_bytes_and_in_seconds(pair: Pair):
    leader, standby, _ = await pair.leads()

    async def grown(bytes_key: str, seconds_key: str) -> bool:
        (told,) = (await leader.status())["postgres"]["standbys"]
        return told[bytes_key] > 0 and (told[seconds_key] or 0.0) > 0.5

    await standby.select("select pg_wal_replay_pause()")
    try:
        await pair.until(lambda: grown("replay_lag_bytes", "replay_lag_s"), "the replay is seen to be behind")
    finally:
        await standby.select("select pg_wal_replay_resume()")

    receiver = await standby.pid_of("walreceiver")
    os.kill(receiver, signal.SIGSTOP)
    try:
        await pair.until(lambda: grown("lag_bytes", "lag_s"), "the disk is seen to be behind")
    finally:
        os.kill(receiver, signal.SIGCONT)


async def test_both_agents_tell_the_same_cluster(pair: Pair):
    leader, standby, term = await pair.leads()
    for site in pair.sites:
        status, told = await site.ask("/cluster")
        assert status == 200
        assert (told["live_site"], told["leader"], told["term"]) == (leader.name, leader.node, term)
        assert (told["durability"], told["told_by"], told["etcd_reached"]) == ("two-site", site.node, True)
        assert {member["node"] for member in told["members"]} == {leader.node, standby.node}
        assert [in_step["node"] for in_step in told["sync"]] == [standby.node]
        assert {d["name"] for d in told["dispatchers"]} == {"columbus-1", "denver-1"}
        assert (told["swap"], told["paused"]) == (None, False)


async def test_a_pause_is_kept_until_somebody_resumes_with_who_and_why(pair: Pair):
    status, told = await pair.columbus.ask("/pause", json={"reason": "storm", "by": "ann"}, headers=OPERATOR)
    assert (status, told["paused"], told["paused_by"], told["paused_reason"]) == (200, True, "ann", "storm")

    async def known_at_denver() -> bool:
        return bool((await pair.denver.ask("/cluster"))[1]["paused"])

    await pair.until(known_at_denver, "the other agent knows of the pause")
    status, told = await pair.denver.ask("/resume", json={"reason": "over", "by": "bob"}, headers=OPERATOR)
    assert (status, told["paused"], told["paused_by"], told["paused_reason"]) == (200, False, "bob", "over")
    assert (await pair.read_keys())["desired"]["paused"] is False


async def test_what_an_operator_did_stands_in_the_audit_log_with_who_from_where_and_why(pair: Pair):
    async def act(path: str, **body: object) -> None:
        """Asked again while the agent has yet to see what was changed last."""

        async def taken() -> bool:
            return (await pair.columbus.ask(path, json=body, headers=OPERATOR))[0] == 200

        await pair.until(taken, path)

    await act("/pause", reason="storm", by="ann")
    await act("/maintenance/begin", site="denver", for_s=60, reason="new disks", by="bob")
    await act("/maintenance/end", site="denver", by="bob")
    await act("/resume", reason="over", by="ann")
    status, told = await pair.denver.ask("/audit")
    assert status == 200
    acts = told["audit"][-4:]
    assert [(act["what"], act["by"], act["reason"]) for act in acts] == [
        ("paused", "ann", "storm"),
        ("maintenance begun", "bob", "new disks"),
        ("maintenance ended", "bob", ""),
        ("resumed", "ann", "over"),
    ]
    assert {(act["source"], act["through"]) for act in acts} == {("127.0.0.1", "columbus-a")}
    assert acts[1]["about"].startswith("denver until ")
    assert told["flaws"] == told["older"] == []
    assert told["newest"]["number"] == len(told["audit"])


async def test_an_act_that_is_not_understood_names_the_field_and_changes_nothing(pair: Pair):
    before = (await pair.read_keys()).get("desired")
    for path, body, field in (
        ("/resume", {"reason": "x" * 301}, "reason"),
        ("/pause", {"reason": "x", "why": "x"}, "why"),
        ("/pause", {}, "reason"),
        ("/pause", {"reason": "  "}, "reason"),
        ("/swap", {"reason": "x"}, "to"),
        ("/swap", ["x"], ""),
    ):
        status, told = await pair.columbus.ask(path, json=body, headers=OPERATOR)
        assert status == 422
        assert [error["field"] for error in told["errors"]] == [field]
    assert (await pair.read_keys()).get("desired") == before


async def raw(site: Site, request: bytes) -> tuple[int, str, dict[str, object]]:
    """Bytes that no HTTP library would send; status, headers and document of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.agent_port)
    writer.write(request)
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    lines = head.decode()
    return int(lines.split()[1]), lines.lower(), json.loads(body)


async def test_a_token_that_is_no_text_is_a_wrong_token_and_no_defect(pair: Pair):
    for token in (b"\xff\xfe\x00"[:2], b"\xc3(", TOKEN.encode() + b"\xff", "clé".encode(), b""):
        for path in (b"/resume", b"/pause", b"/swap"):
            status, head, told = await raw(
                pair.columbus,
                b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n"
                b"Authorization: Bearer " + token + b"\r\n\r\n{}",
            )
            assert (status, told["status"]) == (401, 401)
            assert "www-authenticate: bearer" in head
            assert "application/problem+json" in head


async def test_an_agent_whose_port_is_taken_ends_with_one_line_that_says_what_to_do(pair: Pair):
    site = pair.columbus  # its agent listens there
    config = await asyncio.to_thread(twin, site)
    ended = await asyncio.to_thread(
        subprocess.run,
        command(config),
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"agent.listen = '127.0.0.1:{site.agent_port}'" in line
    assert "free the port or choose another" in line
    assert await code(site, "/live") in (200, 503)  # the agent that was there still is


def twin(site: Site) -> Path:
    """Settings of another node with the same address: a folder of its own, and nothing that it would disturb."""
    home = site.folder.with_name("twin")
    home.mkdir(exist_ok=True)
    config = site.config.with_name("twin.toml")
    config.write_text(site.config.read_text().replace(f'"{site.folder}/', f'"{home}/'))
    return config
