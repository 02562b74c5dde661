"""A carrier link: whether a dispatcher's own bind at a carrier stands, as its dispatcher tells.

The dispatcher exercises its binds itself (enquire_link); a second bind from here would cost one of the few
that a carrier grants. Whether the carrier's port accepts at all is another target (`carrier/<name>`, tcp).
"""

from collections.abc import Callable, Sequence

from healthcheck.probes.result import Result
from healthcheck.reports import DispatcherReport, LinkReport, tolerant
from healthcheck.targets import Target


class LinkProbe:
    """Reads the links of one carrier from its dispatcher's report; `latest` gives that look's result."""

    def __init__(self, latest: Callable[[str], Result | None]) -> None:
        self._latest = latest

    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline
        status = self._latest(target.source or "")
        report = status.evidence.get("report") if status and status.ok else None
        if not isinstance(report, dict):
            return Result(ok=None, detail="its dispatcher does not answer")
        links = links_of(tolerant(DispatcherReport, report), target.carrier)
        return judge_links(links)


def links_of(report: DispatcherReport, carrier: str) -> list[LinkReport]:
    """Those at one carrier, or all of them for `""`."""
    return [link for link in report.links if carrier in {"", link.carrier}]


def is_bound(link: LinkReport) -> bool:
    return link.bound if link.bound is not None else link.state == "bound"


def judge_links(links: Sequence[LinkReport]) -> Result:
    """Good when at least one bind stands: texts go out, if perhaps slower."""
    if not links:
        return Result(ok=None, detail="its dispatcher tells nothing of this link")
    bound = [k for k in links if is_bound(k)]
    rtt = min((k.enquire_rtt_s for k in bound if k.enquire_rtt_s is not None), default=None)
    others = sorted({(k.state or "not bound") for k in links if not is_bound(k)})
    detail = f"{len(bound)} of {len(links)} bound"
    error = next((k.last_error for k in links if not is_bound(k) and k.last_error), None)
    if others:
        detail += f" ({', '.join(others)})"
    if error:
        detail += f": {error}"
    evidence = {"bound": len(bound), "links": len(links), "unanswered": sum(k.unanswered or 0 for k in links)}
    return Result(ok=bool(bound), latency=rtt or 0.0, detail=detail, evidence=evidence)
