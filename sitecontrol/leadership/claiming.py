"""What is told of a claim, for the history: the sentence, and the facts that it was decided on. Pure."""

from sitecontrol.leadership.effects import Claim, Effect
from sitecontrol.leadership.facts import Facts

CLAIM = "Nobody leads and we hold every acknowledged message: take the lead in the next term."


def claim(f: Facts) -> Effect:
    age = f.canary_age
    absent = None if f.leader_absent_since is None else f.now - f.leader_absent_since
    return Claim(
        kind="failover",
        evidence={
            "rule": "claim",
            "sentence": CLAIM,
            "leader_absent_s": "just now" if absent is None else f"{absent:.2f}",
            "canary_age_s": "never seen" if age is None else f"{age:.2f}",
            "released_by": f.released_by or "nobody",
            "in_step": "as recorded leader" if f.recorded_leader else "as standby in step",
            "lsn": str(max(f.pg.received_lsn, f.pg.replayed_lsn)),
        },
    )
