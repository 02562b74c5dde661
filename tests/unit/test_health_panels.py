"""What each panel says in HTML: its values, and nothing of what a stranger said as markup."""

import html
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from healthcheck.noc.panels import PANELS
from healthcheck.noc.render import DASH, Renderer
from healthcheck.noc.scene import Scene
from sitecontrol.records import Desired, Observation, Phase, PhaseTime, ReachState
from sitecontrol.view import Snapshot
from tests.unit.health_scenes import (
    HISTORY,
    UNDER_WORK,
    WALL,
    Stage,
    entry,
    loss_of,
    past,
    report_of_agent,
    report_of_dispatcher,
    snapshot_of,
    troubled,
    wanted,
)

RENDERER = Renderer()


def body(name: str, scene: Scene) -> str:
    return RENDERER.panel(name, PANELS[name](scene))


def text(fragment: str) -> str:
    """What a person reads of it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", fragment)).split())


def said(name: str, stage: Stage) -> str:
    return text(body(name, stage.scene()))


def table(name: str, stage: Stage) -> dict[str, list[str]]:
    """The cells of each row of the panel's table, by the first word of the row."""
    rows = re.findall(r"<tr[ >].*?</tr>", body(name, stage.scene()), re.DOTALL)
    cells = [[text(cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)] for row in rows]
    return {row[0].split()[0]: row for row in cells}


def test_the_live_site_its_term_and_its_durability_are_said() -> None:
    told = said("overview", Stage(history=HISTORY))
    assert told.startswith("live site Columbus")
    assert "Term 4" in told
    assert "two sites two-site" in told
    assert "If columbus died now, denver-a would lead, in about 2.5 s, at most 4.6 s." in told
    assert "Lost: Nothing that was acknowledged." in told


def test_one_site_and_nobody_are_said_too() -> None:
    assert "one site one-site" in said("overview", Stage(snapshot=snapshot_of(in_step=False)))
    assert said("overview", Stage(leader=None, snapshot=snapshot_of(None))).startswith("nobody leads Nobody")


def test_a_swap_shows_every_phase_in_order_and_marks_the_one_it_is_in() -> None:
    shown = body("overview", Stage(snapshot=snapshot_of(swap=Phase.HANDED)).scene())
    assert "Swap columbus-a → denver-a asked for by maria: kernel update" in text(shown)
    steps = re.findall(r'<li class="step-(\w+)"([^>]*)><span>([^<]*)</span>', shown)
    assert [(state, phase) for state, _, phase in steps] == [
        ("done", "requested"), ("done", "checked"), ("done", "held"), ("done", "flushed"), ("now", "handed"),
        ("ahead", "promoted"), ("ahead", "opened"), ("ahead", "following"), ("ahead", "in step"),
    ]  # fmt: skip
    assert [phase for _, more, phase in steps if 'aria-current="step"' in more] == ["handed"]


def test_a_pause_is_shown_with_who_and_why() -> None:
    desired = entry(Desired(paused=True, paused_by="maria", paused_reason="storm"))
    paused = Snapshot(**{**snapshot_of().__dict__, "desired": desired})
    assert "Automatic swaps are paused by maria: storm" in said("overview", Stage(snapshot=paused))


def test_what_needs_attention_is_said_with_its_reason_and_its_time() -> None:
    told = said("attention", Stage(bad={"carrier/alto": "connection refused"}))
    assert "carrier/alto is down connection refused since 15:09:" in told


def test_who_sees_whom_is_said_for_each_pair_and_drawn_the_same() -> None:
    denver = Observation(
        place="denver",
        at=WALL,
        blind=False,
        reach={"place/columbus": ReachState.DOWN, "place/witness": ReachState.GOING_UP},
        fit={"columbus": False, "denver": True},
        reasons={"columbus": ("its database does not answer",)},
    )
    stage = Stage(others={"denver": denver})
    seen = table("places", stage)
    assert seen["Columbus"][1:] == ["itself", "up 18 ms", "up 2 ms"]
    assert seen["Denver"][1:] == ["down", "itself", "going-up"]
    assert seen["Witness"][1:] == ["unknown", "unknown", "itself"]
    shown = body("places", stage.scene())
    titles = {text(title) for title in re.findall(r"<title>.*?</title>", shown)}
    assert {
        "Columbus sees Denver: up",
        "Denver sees Columbus: down",
        "Denver sees Witness: going-up",
    } <= titles
    assert "Columbus fit to be live: columbus: yes denver: no" in text(shown)
    assert 'title="its database does not answer"' in shown


def test_the_queue_is_said_by_state_with_its_oldest_and_its_flow() -> None:
    told = said("queue", Stage())
    for words in ("queued 1\u2009830", "in doubt 0", "submitted 412", "delivered 118\u2009204"):
        assert text(words) in told
    assert "Oldest in the queue: service 1.4 s, marketing 6.2 s." in told
    assert "900 /s accepted" in told
    assert "Told by columbus-1" in told


def test_the_freshest_dispatcher_tells_of_the_queue() -> None:
    old, new = (report_of_dispatcher(name) for name in ("columbus-1", "denver-1"))
    old["queue"] |= {"age_s": 30.0}
    new["queue"] |= {"age_s": 0.0, "by_state": {"queued": 7}, "oldest_queued_s": {}}
    reports = {"dispatcher/columbus-1": old, "dispatcher/columbus-2": {}, "dispatcher/denver-2": {}}
    told = said("queue", Stage(reports=reports | {"dispatcher/denver-1": new}))
    assert "queued 7" in told
    assert "Told by denver-1" in told


def test_each_node_is_said_with_its_role_its_timeline_how_far_it_is_behind_and_whether_it_is_in_step() -> (
    None
):
    nodes = table("nodes", Stage())
    assert nodes["columbus-a"][1:] == ["leader", "up", "up 2 ms", "moving", "3", DASH, "in step"]
    assert nodes["denver-a"][1:] == [
        "standby",
        "up",
        "up 18 ms",
        "moving",
        "3",
        "2.0 KiB flush 35 ms, replay 1.5 s",
        "in step",
    ]


def test_a_node_out_of_step_says_what_is_in_its_way() -> None:
    agent = report_of_agent("denver-a", leads=False)
    agent |= {"ready": False, "reasons": ["PostgreSQL does not stream from the leader."]}
    agent["postgres"]["lag_bytes"] = 5 << 20
    leader = report_of_agent("columbus-a", leads=True)
    leader["postgres"]["standbys"] = []
    stage = Stage(
        snapshot=snapshot_of(in_step=False),
        reports={"agent/denver-a": agent, "agent/columbus-a": leader},
        bad={"postgres/denver-a": "connection refused"},
    )
    assert table("nodes", stage)["denver-a"][3:] == ["down", "moving", "3", "5.0 MiB", "not in step"]
    assert "PostgreSQL does not stream from the leader. " in said("nodes", stage)


def test_each_link_is_said_by_its_word_with_its_binds() -> None:
    report = report_of_dispatcher("denver-1")
    report |= {"ready": False, "reasons": ["not the live site"]}
    down = {"link/denver-1/alto": "0 of 1 bound (connecting): refused", "carrier/alto": "connection refused"}
    report["links"][0] |= {"state": "connecting"}
    links = table("links", Stage(bad=down, reports={"dispatcher/denver-1": report}))
    assert links["columbus-1"][1:] == [
        "up",
        "bound 1/1, 12 unanswered, 2 ms",
        "bound 1/1, 12 unanswered, 2 ms",
    ]
    assert links["denver-1"][1:] == [
        "up not the live site",
        "down 0/1, 12 unanswered",
        "bound 1/1, 12 unanswered, 18 ms",
    ]
    assert links["Port"][2:] == ["down alto.example:2775", "accepts basso.example:2775"]


def test_a_past_swap_is_said_with_its_site_its_reason_and_how_long_each_phase_took() -> None:
    swap = past(4, "columbus", "swap", "home again", held=210, flushed=90, promoted=1110, opened=40)
    swap = swap.model_copy(update={"steps": (PhaseTime(phase=Phase.HELD, at=WALL),)})
    told = said("swaps", Stage(history=(swap, *HISTORY[1:])))
    assert told.startswith("Columbus columbus-a, term 4 swap 14 Mar 09:09:26 By maria: home again")
    assert "held 210 ms flushed 90 ms promoted 1.1 s opened 40 ms in all 1.4 s" in told
    assert "held 2026-03-14T15:09:26.000+00:00" in told
    assert "Denver denver-a, term 3 failover" in told
    assert "lease ran out at 15:09:24.1" in told


def test_what_is_in_the_way_of_a_take_over_is_said() -> None:
    told = said("overview", Stage(reports=troubled()))
    assert "If columbus died now, nobody could take the lead." in told
    assert "In the way: denver-a is not in step: it might lack acknowledged messages" in told


def test_an_agent_that_speaks_of_another_live_site_or_hears_no_etcd_is_not_asked_what_would_happen() -> None:
    for wrong in ({"if_lost": loss_of("denver")}, {"etcd_reached": False}):
        deaf = {
            f"agent/{s}-a": report_of_agent(f"{s}-a", leads=s == "columbus") | wrong
            for s in ("columbus", "denver")
        }
        told = PANELS["overview"](Stage(reports=deaf).scene())["if_lost"]
        assert told["told_by"] is None
        assert told["sentence"].startswith("denver-a would take over")


def test_operations_tells_of_pause_maintenance_settings_adapters_and_rows_set_aside() -> None:
    calm = said("operations", Stage())
    assert "Automatic swaps on Maintenance none announced Settings alike at all nodes" in calm
    nodes = table("operations", Stage())
    assert nodes["columbus-a"][1:] == ["dns ok", "nothing"]
    assert nodes["denver-a"][1:] == ["dns idle", "nothing"]

    bad = Stage(reports=troubled(), snapshot=wanted(snapshot_of(), UNDER_WORK))
    told = said("operations", bad)
    assert "Automatic swaps paused by maria: storm" in told
    assert "Denver until 14 Mar 17:09:26 UTC, by joe: new power supply" in told
    assert "what is over" not in told
    assert "Settings differ failover.lease_ttl is 2 at columbus-a and 3 at denver-a" in told
    nodes = table("operations", bad)
    assert nodes["columbus-a"][1] == "dns failed 10.0.9.1 refused the update: NOTAUTH haproxy ok"
    assert nodes["denver-a"][2].startswith("17 rows in 2 files 17 rows that only this node held")


def test_an_agent_that_is_not_heard_has_nothing_calm_said_of_it() -> None:
    nodes = table("operations", Stage(bad={"agent/": "connection refused"}))
    assert nodes["denver-a"][1:] == ["its agent is not heard"]
    assert "Settings no agent tells" in said("operations", Stage(bad={"agent/": "connection refused"}))


def test_a_node_that_was_removed_is_said_to_be_and_only_for_as_long_as_its_agent_is_not_heard() -> None:
    whole = wanted(snapshot_of(), Desired(retired=("denver-a",)))
    gone = {name: m for name, m in whole.members.items() if name != "denver-a"}
    bad = {"agent/denver": "connection refused"}
    nodes = table("operations", Stage(snapshot=Snapshot(**{**whole.__dict__, "members": gone}), bad=bad))
    assert nodes["denver-a"][1:] == ["removed: an operator counts it as gone for good"]
    assert table("operations", Stage(snapshot=whole, bad=bad))["denver-a"][1:] == ["its agent is not heard"]


def test_alarms_of_operations_need_attention() -> None:
    told = said("attention", Stage(reports=troubled(), snapshot=wanted(snapshot_of(), UNDER_WORK)))
    assert "columbus-a cannot move clients by dns 10.0.9.1 refused the update: NOTAUTH" in told
    assert "rows are set aside at denver-a 17 rows" in told
    assert (
        "settings differ between nodes columbus-a tells: failover.lease_ttl is 2 at columbus-a and 3" in told
    )
    assert "Denver is in maintenance By joe, until 14 Mar 17:09 UTC: new power supply" in told
    assert "Columbus is in maintenance" not in told


def test_each_look_is_said_with_its_verdict_its_words_and_its_time() -> None:
    probes = table("probes", Stage(bad={"carrier/alto": "connection refused"}))
    name, verdict, says, answered, _ = probes["postgres/denver-a"]
    assert name == "postgres/denver-a postgres · Denver"
    assert verdict.startswith("up since 15:09:")
    assert (says, answered) == ("answers, follows the leader", "18 ms")
    assert probes["carrier/alto"][1].startswith("down")
    assert "Why? The last 10 looks" in probes["carrier/alto"][2]


# -- what strangers say

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
# Not free text: words of ours, by which a template looks something up.
OURS = {("live", "state"), ("sees", "state"), ("flows", "flow"), ("places", "kind")}


def poisoned(value: Any, *, within: str = "", key: str = "") -> Any:
    """The panel with every text in it, and every key that came from outside, made hostile."""
    match value:
        case Mapping():
            outer = key or within
            foreign = key in {"evidence", "durations_ms", "oldest_queued_s"}
            return {
                (f"{HOSTILE}{k}" if foreign else k): poisoned(v, within=outer, key="" if foreign else k)
                for k, v in value.items()
            }
        case list():
            return [poisoned(item, within=key or within, key="") for item in value]
        case str() if (within, key) not in OURS and not is_time(value):
            return f"{HOSTILE}{value}"
        case _:
            return value


def is_time(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


BUSY = Stage(
    history=HISTORY,
    snapshot=wanted(snapshot_of(swap=Phase.HELD, in_step=False), UNDER_WORK),
    bad={"carrier/alto": "refused", "link/denver-1/alto": "refused"},
    reports=troubled()
    | {"dispatcher/denver-1": report_of_dispatcher("denver-1") | {"ready": False, "reasons": ["why"]}},
)


@pytest.mark.parametrize("name", PANELS)
def test_whatever_text_a_panel_is_made_of_comes_out_as_text(name: str) -> None:
    panel = poisoned(PANELS[name](BUSY.scene()))
    shown = RENDERER.panel(name, panel)
    assert "alert(1)" in shown.lower()
    assert "<script" not in shown.lower()
    assert "<img" not in shown.lower()
    for tag in re.findall(r"<[^>]*>", shown):
        assert "alert(" not in re.sub(r'="[^"]*"', "", tag).lower()
