"""`/metrics` of the agent: computed from the state when asked, so there is nothing to keep up to date."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sitecontrol.agent.state import AgentState
from sitecontrol.leadership.facts import PgState
from sitecontrol.leadership.invariants import CHECKED
from sitecontrol.traffic.moving import State


class AgentCollector(Collector):
    def __init__(self, state: AgentState) -> None:
        self._state = state

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        state, facts = self._state, self._state.facts
        yield self._one(
            "hotsite_agent_live", "1 when this node serves as the live site's leader.", state.serving
        )
        yield self._one("hotsite_agent_ready", "1 when this node can do its part.", not state.reasons)
        yield self._one("hotsite_term", "The last term granted.", facts.term)
        yield self._one("hotsite_two_site", "1 when every commit waits for the other site.",
                        state.durability == "two-site")  # fmt: skip
        yield self._one("hotsite_agent_lease_seconds", "Seconds until our lease may have run out.",
                        max(0.0, facts.lease_ends_in) if facts.lease.id else 0.0)  # fmt: skip
        if facts.canary_age is not None:
            yield self._one("hotsite_canary_age_seconds", "Age of the last canary seen.", facts.canary_age)
        yield self._one("hotsite_replay_lag_bytes", "Received but not yet replayed.",
                        max(0, facts.pg.received_lsn - facts.pg.replayed_lsn))  # fmt: skip
        unsettled = state.unsettled
        yield self._one("hotsite_quarantine_files", "Files of set-aside rows that wait for an operator.",
                        len(unsettled))  # fmt: skip
        yield self._one("hotsite_quarantine_rows", "Rows in these files.",
                        sum(file.header.rows for file in unsettled))  # fmt: skip
        pg = GaugeMetricFamily("hotsite_postgres_state", "1 for the state that holds.", labels=["state"])
        for known in PgState:
            pg.add_metric([known.value], float(facts.pg.state is known))
        yield pg
        yield from self._lags()
        yield self._traffic()
        yield self._one("hotsite_settings_differ", "Settings of [failover] that are other at another node.",
                        len(state.settings_differ))  # fmt: skip
        yield self._one(
            "hotsite_bad_records", "Records in etcd that are not believed.", len(facts.cluster.bad)
        )
        broken = GaugeMetricFamily(
            "hotsite_invariant_broken", "1 while an invariant is seen to be broken.", labels=["invariant"]
        )
        seen = {each.invariant for each in state.broken}
        for invariant in CHECKED:
            broken.add_metric([invariant], float(invariant in seen))
        yield broken
        fencing = GaugeMetricFamily(
            "hotsite_fencing_seconds",
            "When the last fencing reached a step, from the end of the last proof that we led.",
            labels=["step"],
        )
        for step, milliseconds in state.fencing_ms.items():
            fencing.add_metric([step], milliseconds / 1000)
        yield fencing

    def _lags(self) -> Iterable[GaugeMetricFamily]:
        """How far each standby is behind, by the leader's word."""

        def family(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, text, labels=["standby"])

        pg = self._state.facts.pg
        flush = family("hotsite_standby_lag_bytes", "Not yet flushed by a standby.")
        flush_s = family("hotsite_standby_lag_seconds", "Until a standby has flushed a commit.")
        replay = family("hotsite_standby_replay_lag_bytes", "Not yet replayed by a standby.")
        replay_s = family("hotsite_standby_replay_lag_seconds", "Until a standby has replayed a commit.")
        for standby in pg.standbys:
            flush.add_metric([standby.name], max(0, pg.received_lsn - standby.flush_lsn))
            flush_s.add_metric([standby.name], standby.flush_lag_s)
            replay.add_metric([standby.name], max(0, pg.received_lsn - standby.replay_lsn))
            if standby.replay_lag_s is not None:
                replay_s.add_metric([standby.name], standby.replay_lag_s)
        yield from (flush, flush_s, replay, replay_s)

    def _traffic(self) -> GaugeMetricFamily:
        """Only of the live site: nobody else moves clients."""
        ok = GaugeMetricFamily(
            "hotsite_traffic_adapter_ok", "1 when clients are sent to the live site.", labels=["adapter"]
        )
        for name, told in self._state.traffic.items():
            if told.state is not State.IDLE:
                ok.add_metric([name], float(told.state is State.OK))
        return ok

    def _one(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, value=float(value))
