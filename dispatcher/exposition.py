"""What Prometheus and `/status` are told of a running dispatcher, read from its parts when they ask."""

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from dispatcher.clocks import Clocks
from dispatcher.condition import Condition
from dispatcher.engine.engine import Engine
from dispatcher.engine.router import Why
from dispatcher.http.door import Bound, Door
from dispatcher.leadership import Leadership
from dispatcher.metrics import PREFIX, Metrics
from dispatcher.observed import Observed
from dispatcher.reload import Reload
from dispatcher.smpp.link import Link
from dispatcher.webhooks.exposition import WebhookExposition
from sitecontrol.clock import Clock
from sitecontrol.settings import Settings
from sitecontrol.settings_carriers import Carrier
from sitecontrol.settings_types import Name
from sitecontrol.view import Snapshot


class Exposition(Collector):
    """One dispatcher, seen from outside. Reads and never changes anything."""

    def __init__(
        self,
        *,
        name: Name,
        settings: Settings,
        leadership: Leadership,
        engine: Engine,
        reload: Reload,
        clocks: Clocks,
        observed: Observed,
        door: Door,
        webhooks: WebhookExposition,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._name = name
        self._settings = settings
        self._leadership = leadership
        self._engine = engine
        self._reload = reload
        self._clocks = clocks
        self._observed = observed
        self._door = door
        self._webhooks = webhooks
        self._metrics = metrics
        self._clock = clock
        self._version = installed_version()

    def condition(self) -> Condition:
        return Condition(
            name=self._name,
            site=self._settings.site.name,
            state=self._leadership.state,
            links_bound=self._engine.links_bound,
            links=self._engine.links_that_send,
            in_step=in_step(self._leadership.snapshot, self._settings),
            schema_awaited=self._engine.sender.schema.reason,
            journal_blocks=self._engine.journal.broken if self._engine.journal.blocks else None,
        )

    def status(self) -> dict[str, Any]:
        condition = self.condition()
        state = condition.state
        return {
            "name": condition.name,
            "site": condition.site,
            "version": self._version,
            "identity": self._engine.identity,
            "live": condition.live,
            "ready": not condition.reasons,
            "reasons": list(condition.reasons),
            "gate": {
                "rule": state.rule,
                "sentence": state.sentence,
                "open": state.open,
                "may_send": state.may_send,
                "holding": state.holding,
            },
            "leader": state.leader_node,
            "live_site": state.leader_site,
            "term": state.term,
            "durability": state.durability,
            "clock_agrees": self._clocks.agree(state.leader_node),
            "links": [_link(carrier, link) for carrier, link in self._engine.links],
            "routing": self._engine.router.status() | {"draining": self._engine.draining},
            "config": self._reload.status(),
            "unwritten": self._engine.sender.unwritten,
            "unanswered": self._engine.sender.unanswered,
            "journal_broken": self._engine.journal.broken,
            "connections": {
                "open": self._door.open,
                "refused": self._door.refused.total(),
                "displaced": self._door.displaced,
            },
            "counters": self._metrics.totals(),
            "rates": self._observed.rates,
            "queue": self._queue(),
            "webhooks": self._webhooks.status(),
        }

    def collect(self) -> Iterator[Metric]:
        state = self._leadership.state
        for what, total in self._metrics.totals().items():
            yield CounterMetricFamily(PREFIX + what, f"{what}, since this process started", value=total)
        yield GaugeMetricFamily(PREFIX + "open", "1 while requests pass to the leader", value=state.open)
        yield GaugeMetricFamily(PREFIX + "may_send", "1 while this site sends", value=state.may_send)
        yield GaugeMetricFamily(PREFIX + "term", "The term of the known leader", value=state.term)
        yield GaugeMetricFamily(
            PREFIX + "clock_agrees",
            "1 unless the leader's wall clock disagrees with both other places: then nothing expires or is released",
            value=self._clocks.agree(state.leader_node),
        )
        yield GaugeMetricFamily(PREFIX + "holding", "Pieces of work held by the gate", value=state.holding)
        sender = self._engine.sender
        yield GaugeMetricFamily(
            PREFIX + "unwritten", "Segments claimed and not yet written", value=sender.unwritten
        )
        yield GaugeMetricFamily(
            PREFIX + "unanswered", "Segments written and not yet answered", value=sender.unanswered
        )
        yield GaugeMetricFamily(
            PREFIX + "journal_broken",
            "1 when what is under way is not kept on disk any more: should this process die, all of it is in doubt",
            value=self._engine.journal.broken is not None,
        )
        yield from self._connection_families()
        yield from self._queue_families()
        yield from self._link_families()
        yield from self._route_families()

    def _queue(self) -> dict[str, Any] | None:
        queue = self._observed.queue
        if queue is None:
            return None
        return {
            "by_state": dict(queue.counts.by_state),
            "oldest_queued_s": queue.counts.oldest_queued_s,
            "age_s": round(self._clock.now() - queue.at, 3),
        }

    def _connection_families(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(PREFIX + "connections", "Open HTTP connections", value=self._door.open)
        refused = CounterMetricFamily(
            PREFIX + "connections_refused",
            "HTTP connections that were refused, by what stood in the way: too many of one source, or in total",
            labels=["bound"],
        )
        for bound in Bound:
            refused.add_metric([bound], self._door.refused[bound])
        yield refused
        yield CounterMetricFamily(
            PREFIX + "connections_displaced",
            "HTTP connections without a request that were closed to make room",
            value=self._door.displaced,
        )

    def _queue_families(self) -> Iterator[Metric]:
        queue = self._observed.queue
        if queue is None:
            return
        segments = GaugeMetricFamily(PREFIX + "queue", "Segments by state, whole cluster", labels=["state"])
        for segment_state, count in queue.counts.by_state.items():
            segments.add_metric([segment_state], count)
        yield segments
        oldest = GaugeMetricFamily(
            PREFIX + "oldest_queued_seconds", "Age of the oldest queued segment", labels=["class"]
        )
        for message_class, age in queue.counts.oldest_queued_s.items():
            oldest.add_metric([message_class], age)
        yield oldest

    def _link_families(self) -> Iterator[Metric]:
        labels = ["carrier", "link"]
        bound = GaugeMetricFamily(PREFIX + "link_bound", "1 while the link is bound", labels=labels)
        flight = GaugeMetricFamily(PREFIX + "link_unanswered", "Unanswered submits", labels=labels)
        window = GaugeMetricFamily(PREFIX + "link_window", "The most unanswered submits", labels=labels)
        rate = GaugeMetricFamily(PREFIX + "link_rate", "Segments per second allowed now", labels=labels)
        rtt = GaugeMetricFamily(
            PREFIX + "link_rtt_seconds", "Round trip of the last enquire_link", labels=labels
        )
        events = CounterMetricFamily(
            PREFIX + "link_events", "What happened on the link, by kind", labels=[*labels, "what"]
        )
        for carrier, link in self._engine.links:
            which = [carrier.name, link.name]
            for what, count in asdict(link.counters).items():
                events.add_metric([*which, what], count)
            bound.add_metric(which, link.bound)
            flight.add_metric(which, link.in_flight)
            window.add_metric(which, carrier.window)
            rate.add_metric(which, link.rate)
            if link.rtt_s is not None:
                rtt.add_metric(which, link.rtt_s)
        yield from (bound, flight, window, rate, rtt, events)

    def _route_families(self) -> Iterator[Metric]:
        router = self._engine.router
        chosen = CounterMetricFamily(
            PREFIX + "route_chosen", "Segments written to a carrier", labels=["carrier"]
        )
        for name, texts in router.chosen.items():
            chosen.add_metric([name], texts)
        excluded = CounterMetricFamily(
            PREFIX + "route_excluded",
            "Claimed segments that a carrier may not carry by its settings, by why",
            labels=["carrier", "why"],
        )
        for (name, reason), texts in router.excluded.items():
            excluded.add_metric([name, reason.name.lower()], texts)
        returned = CounterMetricFamily(
            PREFIX + "route_returned",
            "Claimed segments that went back to the queue for a while, by why: nobody may carry them, those that may"
            " are all down, or more were claimed than those take in time",
            labels=["why"],
        )
        for why in Why:
            returned.add_metric([why], router.returned[why])
        usable = GaugeMetricFamily(
            PREFIX + "carrier_state", "1 for the state that the carrier is in", labels=["carrier", "state"]
        )
        for name in router.table.carriers:
            usable.add_metric([name, router.state(name)], 1)
        yield from (chosen, excluded, returned, usable)
        yield GaugeMetricFamily(
            PREFIX + "settings_refused",
            "1 while the settings file was refused when it was last read again",
            value=self._reload.status()["refused"] is not None,
        )


def _link(carrier: Carrier, link: Link) -> dict[str, Any]:
    counters = link.counters
    return {
        "name": link.name,
        "carrier": carrier.name,
        "bind": link.mode.name.lower(),
        "state": link.state,
        "bound": link.bound,
        "unanswered": link.in_flight,
        "window": carrier.window,
        "rate": link.rate,
        "enquire_rtt_s": link.rtt_s,
        "last_error": link.last_error,
        "submits": counters.submits,
        "answers": counters.answers,
        "throttled": counters.throttled,
        "doubts": counters.doubts,
        "late_answers": counters.late_answers,
        "receipts": counters.receipts,
        "replies": counters.replies,
        "alerts": counters.alerts,
        "queries": counters.queries,
        "malformed": counters.malformed,
        "unexpected": counters.unexpected,
        "disconnects": counters.disconnects,
    }


def in_step(snapshot: Snapshot, settings: Settings) -> bool:
    """Whether a standby of our own site is named in `sync`."""
    if snapshot.sync is None:
        return False
    return any(settings.site_of(s.node) == settings.site.name for s in snapshot.sync.record.standbys)


def installed_version() -> str:
    try:
        return version("hotsite")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"
