"""What the health daemons add to `status`: the queue, and what needs attention. They are asked all at once, for a
moment: nobody waits long for one that is gone, and the status is told without it.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from sitecontrol.cli.agents import Agents, NoAnswer, NotAsked, request
from sitecontrol.cli.tables import Phrases
from sitecontrol.tls import client_context

STEP_WITHIN = 1.0  # seconds for the connection, and for each wait for bytes
WITHIN = 1.5
ALARMS_SHOWN = 10
QUEUE = ("told_by", "age_s", "by_state", "oldest_queued_s")
ALARM = ("level", "what", "detail", "since")


def seen_by_health(agents: Agents) -> dict[str, Any] | None:
    """`place`, `queue` and `alarms` as the first health daemon tells them that answers, the preferred site's before
    others; None: none does.
    """
    places = sorted(agents.settings.place, key=lambda place: not place.preferred)
    urls = [place.healthcheck for place in places if place.healthcheck is not None]
    tls = client_context(agents.settings.security)

    told: dict[str, dict[str, Any]] = {}

    def ask(url: str) -> None:
        with contextlib.suppress(NotAsked, NoAnswer, KeyError, TypeError, AttributeError):
            answer = request(f"{url.rstrip('/')}/status", body=None, token=None, timeout=STEP_WITHIN, tls=tls)
            if answer.status == 200:
                told[url] = _told(answer.body)

    # Daemons, for nobody waits at the end of the program for one that says a word now and then.
    asked = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in asked:
        thread.start()
    until = time.monotonic() + WITHIN
    for thread in asked:
        thread.join(max(0.0, until - time.monotonic()))
    heard = dict(told)
    return next((heard[url] for url in urls if url in heard), None)


def _told(body: Mapping[str, Any]) -> dict[str, Any]:
    """Raises KeyError, TypeError or AttributeError when it is no health daemon's status."""
    return {
        "place": str(body["place"]),
        "queue": {name: body["queue"][name] for name in QUEUE},
        "alarms": [{name: item[name] for name in ALARM} for item in body["attention"]["items"]],
    }


def work_lines(cluster: Mapping[str, Any], seen: Mapping[str, Any] | None) -> Iterable[RenderableType]:
    """Links as the dispatchers tell them in etcd; queue and alarms as a health daemon does."""
    yield Phrases(head="links:", phrases=_links(cluster.get("dispatchers", [])) or ["no dispatcher is heard"])
    if seen is None:
        yield Text("queue, alarms: not known, no health daemon answers", "yellow")
        return
    yield Phrases(head="queue:", phrases=_queue(seen["queue"]))
    alarms = seen["alarms"]
    if not alarms:
        yield Text(f"alarms: none, as {seen['place']} sees it", "green")
    for alarm in alarms[:ALARMS_SHOWN]:
        line = f"alarm ({alarm['level']}): {alarm['what']}: {alarm['detail']}"
        yield Text(line, "red" if alarm["level"] == "bad" else "yellow", overflow="fold")
    if len(alarms) > ALARMS_SHOWN:
        yield Text(f"and {len(alarms) - ALARMS_SHOWN} more alarms, on the NOC page of {seen['place']}")


def _links(dispatchers: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{d['name']} {d['links_up']} of {d['links']} bound"
        + (f" ({d['unanswered']} unanswered)" if d["unanswered"] else "")
        for d in sorted(dispatchers, key=lambda d: str(d["name"]))
    ]


def _queue(queue: Mapping[str, Any]) -> list[str]:
    if queue["told_by"] is None:
        return ["not known, no dispatcher tells of it"]
    counts = [f"{count} {state}" for state, count in queue["by_state"].items() if count]
    oldest = max(queue["oldest_queued_s"].values(), default=None)
    return [*(counts or ["empty"]), *([f"the oldest has waited {oldest:.0f} s"] if oldest else [])]
