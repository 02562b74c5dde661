"""`/metrics`: what the board and the picture say, in Prometheus' words, made at the scrape."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from healthcheck.noc.scene import Scene
from healthcheck.picture import Durability, LiveState
from healthcheck.verdicts import Verdict
from sitecontrol.settings import PlaceKind


class SceneCollector(Collector):
    def __init__(self, scene: Callable[[], Scene], looks: Callable[[], int]) -> None:
        self._scene = scene
        self._looks = looks

    def describe(self) -> list[Metric]:
        """Nothing is collected at registration: the scene does not stand yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        scene = self._scene()
        yield from _probes(scene)
        yield from _cluster(scene)
        yield from _observation(scene)
        looks = CounterMetricFamily("hotsite_probe_looks", "Looks taken since the start.")
        looks.add_metric([], self._looks())
        yield looks


def _probes(scene: Scene) -> Iterator[Metric]:
    labels = ["target", "kind"]
    up = GaugeMetricFamily("hotsite_probe_up", "1 while the verdict is up or going-down.", labels=labels)
    verdict = GaugeMetricFamily(
        "hotsite_probe_verdict", "1 for the verdict that stands.", labels=[*labels, "verdict"]
    )
    latency = GaugeMetricFamily("hotsite_probe_latency_seconds", "Of the last good look.", labels=labels)
    for row in scene.rows:
        of = [row.target.name, row.target.kind.value]
        up.add_metric(of, float(row.standing.verdict.alive))
        for each in Verdict:
            verdict.add_metric([*of, each.value], float(row.standing.verdict is each))
        if row.last is not None and row.last.ok:
            latency.add_metric(of, row.last.latency)
    yield from (up, verdict, latency)


def _cluster(scene: Scene) -> Iterator[Metric]:
    steady = scene.live.state is LiveState.LIVE
    live = GaugeMetricFamily("hotsite_site_live", "1 for the live site, seen from here.", labels=["site"])
    for place in scene.settings.place:
        if place.kind is PlaceKind.SITE:
            live.add_metric([place.name], float(steady and place.name == scene.live.site))
    term = GaugeMetricFamily("hotsite_term", "The term of the leader.", value=scene.live.term)
    two = GaugeMetricFamily(
        "hotsite_two_site",
        "1 while each commit waits for both sites.",
        value=float(scene.durability.value == Durability.TWO_SITE),
    )
    etcd = GaugeMetricFamily(
        "hotsite_etcd_answers", "1 while a linearizable read answers.", value=float(scene.etcd_answers)
    )
    yield from (live, term, two, etcd)


def _observation(scene: Scene) -> Iterator[Metric]:
    blind = GaugeMetricFamily(
        "hotsite_observer_blind", "1 while this place reaches nothing else.", value=float(scene.own.blind)
    )
    fit = GaugeMetricFamily(
        "hotsite_site_fit", "Whether a site is fit to be live, by this place's own looks.", labels=["site"]
    )
    for site, is_fit in scene.own.fit.items():
        fit.add_metric([site], float(is_fit))
    yield from (blind, fit)


def registry(scene: Callable[[], Scene], looks: Callable[[], int]) -> CollectorRegistry:
    """A registry of our own, with this process's memory, processor time and open files."""
    made = CollectorRegistry(auto_describe=False)
    made.register(SceneCollector(scene, looks))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    return made
