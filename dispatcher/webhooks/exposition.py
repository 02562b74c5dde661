"""What Prometheus and `/status` are told of webhooks."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from dispatcher.metrics import PREFIX
from dispatcher.webhooks.deliverer import Deliverer
from dispatcher.webhooks.pacing import Outcome
from dispatcher.webhooks.poster import Poster


class WebhookExposition(Collector):
    def __init__(self, poster: Poster, deliverer: Deliverer) -> None:
        self._poster = poster
        self._deliverer = deliverer

    def collect(self) -> Iterator[Metric]:
        poster = self._poster
        posts = CounterMetricFamily(
            PREFIX + "webhook_posts", "Posts to webhooks, by what came of them", labels=["outcome"]
        )
        for outcome in Outcome:
            posts.add_metric([outcome], poster.posts[outcome])
        yield posts
        yield CounterMetricFamily(
            PREFIX + "webhook_answers_cut",
            "Answers that were too long or too slow to be read",
            value=self._deliverer.cut,
        )
        yield CounterMetricFamily(
            PREFIX + "webhook_letters_died",
            "Events that an endpoint did not take for 72 hours",
            value=poster.dead,
        )
        yield CounterMetricFamily(
            PREFIX + "webhook_switched_off", "Endpoints that were switched off", value=poster.disabled
        )
        counts = poster.counts
        if counts is None:
            return
        endpoints = GaugeMetricFamily(
            PREFIX + "webhooks",
            "Endpoints, whole cluster: enabled, those of them that fail, disabled",
            labels=["state"],
        )
        for state in ("enabled", "failing", "disabled"):
            endpoints.add_metric([state], getattr(counts, state))
        yield endpoints
        letters = GaugeMetricFamily(
            PREFIX + "webhook_letters", "Events that wait to be tried again, or are dead", labels=["state"]
        )
        letters.add_metric(["waiting"], counts.waiting)
        letters.add_metric(["dead"], counts.dead)
        yield letters
        yield GaugeMetricFamily(
            PREFIX + "webhook_lag_seconds",
            "Age of the oldest event that was not posted to an endpoint which does not fail",
            value=counts.lag_s,
        )

    def status(self) -> dict[str, Any] | None:
        counts = self._poster.counts
        return None if counts is None else asdict(counts)
