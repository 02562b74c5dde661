"""Makes docs/timings.md out of the profiles and the relations: `python -m tests.timings_page > docs/timings.md`."""

from collections.abc import Iterator

from sitecontrol.leadership.proof import Finding, prove
from sitecontrol.leadership.timing import DEFAULT_CALL_TIMEOUT, RELATIONS, Weight, seconds_of
from sitecontrol.profiles import DURATIONS, Profile
from sitecontrol.settings import DispatcherSettings, FailoverSettings
from sitecontrol.settings_carriers import Carrier

HEAD = """# Timings

`sitectl config check FILE` shows how the durations of a settings file fit together: each relation below with its sum
and the slack that is left (`--json` has the same). What an agent refuses to start with stands below.

`failover.profile` says for what kind of line between the places the defaults are. Each of them can be set by itself,
and goes before the profile then. `round_trip` is the one to measure: set it to the longest that is still normal.

- `lab`: about 35 ms there and back. It is what labs have, and what two sites some thousand miles apart have.
- `metro`: at most 10 ms.
- `cross-country`: 60 to 80 ms, with jitter and loss. A lost site is noticed two seconds later.

Both sites must have the same `[failover]`. Each agent tells its own in its member record; where they differ, `/status`
of each agent and `sitectl status` name the setting and both values, and no planned swap is begun until they are alike.

This page is made from the code (`python -m tests.timings_page`). The reasoning is in [failover.md](failover.md) and in
[ADR 10](adr/0010-timing-proof.md).

## Defaults, in seconds
"""
KINDS = {
    Weight.SAFETY: "Otherwise two nodes could lead at once, or a text could go out twice. Refused.",
    Weight.FUNCTION: "Otherwise what a setting is there for could not work. Refused.",
    Weight.PROMISE: "Otherwise a figure that is promised is not kept. Told, by `config check` and in the agent's log.",
}


def page() -> str:
    return "\n".join([HEAD, *_defaults(), "", "## What must hold", "", *_relations()]) + "\n"


def _defaults() -> Iterator[str]:
    yield "| `failover.` | " + " | ".join(f"`{profile.value}`" for profile in Profile) + " | what it is for |"
    yield "|---|" + "---:|" * len(Profile) + "---|"
    for duration in DURATIONS:
        values = " | ".join(f"{duration.of(profile):g}" for profile in Profile)
        yield f"| `{duration.setting}` | {values} | {duration.purpose} |"


def _relations() -> Iterator[str]:
    found = {profile: {f.relation.name: f for f in _proof(profile)} for profile in Profile}
    for weight, what in KINDS.items():
        yield f"### {weight.value.capitalize()}"
        yield what
        yield ""
        yield "| relation | with the lab's defaults | slack: " + ", ".join(p.value for p in Profile) + " |"
        yield "|---|---|---|"
        for relation in RELATIONS:
            if relation.weight is weight:
                slack = ", ".join(f"{found[profile][relation.name].slack:.2f}" for profile in Profile)
                told = found[Profile.LAB][relation.name].told
                yield f"| **{relation.name}** {relation.sentence} | {told} | {slack} |"
        yield ""


def _proof(profile: Profile) -> tuple[Finding, ...]:
    failover, carrier = (
        FailoverSettings(profile=profile),
        Carrier(name="any", address="any:2775", system_id="any"),
    )
    return prove(
        seconds_of(failover, DispatcherSettings(), call_timeout=DEFAULT_CALL_TIMEOUT, carriers=[carrier])
    )


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 # what it is for
