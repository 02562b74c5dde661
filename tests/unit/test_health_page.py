"""The page: whatever is said by others comes out as text, every panel stands in every condition."""

import html
import json
import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from healthcheck.noc.attention import attention
from healthcheck.noc.badge import badge_of
from healthcheck.noc.map import draw
from healthcheck.noc.panels import PANELS, overview, places
from healthcheck.noc.render import TITLES, Renderer
from healthcheck.noc.scene import Scene
from sitecontrol.records import Phase
from sitecontrol.view import Bad, Snapshot
from tests.unit.health_scenes import HISTORY, Stage, past, report_of_agent, settings_of, snapshot_of

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"
DEAD = dict.fromkeys(
    (
        "agent/columbus",
        "postgres/columbus",
        "dispatcher/columbus",
        "healthcheck/columbus",
        "etcd-member/etcd-columbus",
    ),
    "connection refused",
)

STAGES: Mapping[str, Stage] = {
    "healthy": Stage(history=HISTORY),
    "just started": Stage(looks=0, snapshot=Snapshot(), etcd_answers=False, leader=None),
    "nobody leads": Stage(leader=None, snapshot=snapshot_of(None)),
    "site lost": Stage(
        here="denver",
        leader="denver",
        snapshot=snapshot_of("denver", in_step=False),
        bad=DEAD,
    ),
    "swap": Stage(snapshot=snapshot_of("columbus", swap=Phase.HELD), history=HISTORY),
    "rolled back": Stage(snapshot=snapshot_of("columbus", swap=Phase.ROLLED_BACK)),
    "etcd lost": Stage(etcd_answers=False, bad={"etcd": "no quorum"}),
    "witness": Stage(here="witness", settings=settings_of("witness", carrier=[])),
    "everything down": Stage(bad={"": "no answer within 1 s"}),
}


def rendered(scene: Scene) -> dict[str, str]:
    renderer = Renderer()
    return {name: renderer.panel(name, make(scene)) for name, make in PANELS.items()}


def whole_page(scene: Scene, **changes: Any) -> str:
    context: dict[str, Any] = {
        "kiosk": False,
        "theme": None,
        "headline": "Columbus live",
        "cluster": "hotsite",
        "here": "columbus",
        "at": "2026-03-14T15:09:26+00:00",
        "version": "v",
    }
    return Renderer().page(rendered(scene), **(context | changes))


@pytest.mark.parametrize("name", STAGES)
def test_every_panel_stands_in_every_condition(name: str) -> None:
    assert all(body for body in rendered(STAGES[name].scene()).values())


@pytest.mark.parametrize("name", STAGES)
def test_every_panel_is_plain_json(name: str) -> None:
    scene = STAGES[name].scene()
    for make in PANELS.values():
        assert orjson.loads(orjson.dumps(make(scene))) == json.loads(json.dumps(make(scene)))


def test_every_panel_has_a_title() -> None:
    assert set(TITLES) == set(PANELS)


def hostile_scene() -> Scene:
    agent = report_of_agent("columbus-a", leads=True) | {
        "role": HOSTILE,
        "reasons": [HOSTILE],
        "decision": {"rule": HOSTILE, "sentence": HOSTILE},
    }
    dispatcher = {
        "ready": False,
        "reasons": [HOSTILE],
        "links": [{"carrier": "alto", "state": HOSTILE, "last_error": HOSTILE}],
        "queue": {"by_state": {"queued": 1, HOSTILE: 2}, "oldest_queued_s": {HOSTILE: 1.0}},
    }
    return Stage(
        bad={"carrier/alto": HOSTILE, "link/denver-1/alto": HOSTILE},
        reports={"agent/columbus-a": agent, "dispatcher/columbus-1": dispatcher},
        history=(past(4, "columbus", "swap", HOSTILE, held=3),),
    ).scene()


def test_hostile_words_come_out_as_text_in_every_panel() -> None:
    bodies = rendered(hostile_scene())
    joined = "".join(bodies.values())
    assert html.escape(HOSTILE, quote=False)[:30] in joined  # it is shown
    assert "<script" not in joined
    assert "<img" not in joined
    assert "{{7*7}}" in joined  # nor is it taken for a template
    for tag in re.findall(r"<[^>]*>", joined):
        assert "alert(" not in html.unescape(re.sub(r'="[^"]*"', "", tag))


def test_hostile_words_stay_text_in_the_headline_and_the_head() -> None:
    page = whole_page(Stage().scene(), headline=HOSTILE, here=HOSTILE, cluster=HOSTILE)
    assert "alert(1)</script>" not in page


def test_the_page_has_no_inline_script_no_inline_style_and_no_outside_address() -> None:
    page = whole_page(Stage(history=HISTORY).scene())
    assert re.findall(r"<script(?![^>]*src=)", page) == []
    assert "<style" not in page
    assert re.findall(r'\sstyle="', page) == []
    assert re.findall(r'\son\w+="', page) == []
    assert re.findall(r'(?:src|href)="(?!/|#)[^"]*"', page) == []
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_the_page_works_without_javascript() -> None:
    page = whole_page(Stage(history=HISTORY).scene())
    assert '<noscript><meta http-equiv="refresh"' in page
    for text in ("Columbus", "two sites", "denver-a would lead", "in step", "columbus-1"):
        assert text in page


def test_state_is_told_by_shape_and_word_and_colour() -> None:
    body = rendered(Stage(bad={"carrier/alto": "refused"}).scene())["probes"]
    cell = next(row for row in body.split("<tr") if "carrier/alto" in row)
    assert 'href="#shape-down"' in cell
    assert "<span>down</span>" in cell
    assert "v-down" in cell


def test_why_it_is_red_is_answered_with_the_last_looks() -> None:
    body = rendered(Stage(bad={"carrier/alto": "connection refused"}).scene())["probes"]
    cell = next(row for row in body.split("<tr") if "carrier/alto" in row)
    assert cell.count("connection refused") > 5


def test_a_lost_place_is_one_line_and_not_twelve() -> None:
    items = attention(STAGES["site lost"].scene())["items"]
    named = [item["what"] for item in items]
    assert "Columbus is not reached from here" in named
    assert not [what for what in named if what.startswith(("agent/columbus", "dispatcher/columbus"))]


def test_a_device_below_one_that_is_down_is_counted_and_not_listed() -> None:
    settings = settings_of(
        probe=[
            {"name": "router", "kind": "tcp", "target": "10.9.9.9:22"},
            *(
                {"name": f"port-{n}", "kind": "tcp", "target": "10.9.9.9:22", "parent": "router"}
                for n in range(20)
            ),
        ]
    )
    items = attention(Stage(settings=settings, bad={"probe/": "no answer"}).scene())["items"]
    assert [(i["what"], i["explains"]) for i in items] == [("probe/router is down", 20)]


def test_nothing_needs_attention_when_all_is_well() -> None:
    assert attention(Stage().scene())["items"] == []
    assert "Nothing needs attention" in rendered(Stage().scene())["attention"]


def test_one_site_is_worth_attention() -> None:
    items = attention(Stage(snapshot=snapshot_of("columbus", in_step=False)).scene())["items"]
    assert [i["what"] for i in items] == ["one-site"]


def test_a_bad_record_in_etcd_is_shown_and_not_believed() -> None:
    bad = {"members/denver-a": Bad(why=HOSTILE, mod_revision=1, lease=0)}
    snapshot = Snapshot(**{**snapshot_of().__dict__, "bad": bad})
    scene = Stage(snapshot=snapshot).scene()
    assert any("members/denver-a" in i["what"] for i in attention(scene)["items"])
    assert "<script" not in rendered(scene)["attention"]


def test_a_swap_under_way_shows_which_phases_are_done() -> None:
    swap = overview(STAGES["swap"].scene())["swap"]
    assert [p["state"] for p in swap["phases"]][:4] == ["done", "done", "now", "ahead"]


def test_how_far_a_standby_is_behind_is_shown_in_bytes_and_in_seconds_by_the_leaders_word() -> None:
    body = rendered(Stage(history=HISTORY).scene())["nodes"]
    assert "2.0 KiB" in body
    assert "flush 35 ms, replay 1.5 s" in body


def test_without_the_leaders_word_a_standbys_own_is_shown_and_no_seconds() -> None:
    leader = report_of_agent("columbus-a", leads=True)
    leader["postgres"]["standbys"] = []
    body = rendered(Stage(reports={"agent/columbus-a": leader}).scene())["nodes"]
    assert "0 B" in body
    assert "replay" not in body


def test_the_map_draws_a_line_for_each_direction() -> None:
    panel = places(Stage().scene())
    picture = draw(panel["places"], panel["sees"])
    assert len(picture["lines"]) == 6
    assert len({(line.x1, line.y1, line.x2, line.y2) for line in picture["lines"]}) == 6


@pytest.mark.parametrize(
    ("what", "word"),
    [("live", "columbus"), ("term", "4"), ("durability", "two-site"), ("denver", "up"), ("columbus", "live")],
)
def test_badges_say_what_the_page_says(what: str, word: str) -> None:
    scene = Stage().scene()
    picture = badge_of(what, overview(scene), places(scene))
    assert picture is not None
    assert f">{word}</text>" in picture


def test_there_is_no_badge_of_something_unknown() -> None:
    scene = Stage().scene()
    assert badge_of(HOSTILE, overview(scene), places(scene)) is None
