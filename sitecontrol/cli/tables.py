"""The tables of `status`, `history` and `node list`, made for 80 columns: what a pipe, a log or a CI job has.

Names, roles and dates are never cut. What may be long (what is in the way, the phases of a swap) stands below the
table, in lines. A column that says nothing in any row is left out.

What people and agents said is shown as it is: in the markup of rich, `[/]` would end a colour, or the command.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sitecontrol.quarantine import SetAside

NOT_HEARD = "its agent is not heard"
RESUME = "`sitectl resume` lets a node that is in step take the lead"
NOTHING = {"", "-"}
NO_BREAK = "\N{NO-BREAK SPACE}"

DURATIONS = "durations_ms"


@dataclass(frozen=True, kw_only=True)
class Column:
    title: str
    whole: bool = False  # never cut, and never on two lines
    least: int = 0  # characters that it keeps, as far as a cell has so many


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """A line of phrases, on as many lines as it takes: each phrase stays in one piece."""

    head: str
    phrases: Sequence[str]
    indent: str = "  "  # of every line but the first

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        text = f"{self.head} {', '.join(phrase.replace(' ', NO_BREAK) for phrase in self.phrases)}"
        for line in textwrap.wrap(
            text,
            options.max_width,
            subsequent_indent=self.indent,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            yield Text(line.replace(NO_BREAK, " "))


def table_of(columns: Iterable[Column], rows: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    kept = []
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        if rows and all(cell.plain in NOTHING for cell in cells):
            continue
        kept.append(index)
        longest = max((cell_len(text) for text in (column.title, *(cell.plain for cell in cells))), default=0)
        least = longest if column.whole else min(longest, column.least)
        table.add_column(column.title, no_wrap=column.whole, min_width=least or None)
    for row in rows:
        table.add_row(*(row[index] for index in kept))
    return table


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Rows of short cells, each with what is said of it below it: however long that is, nothing of it is cut. A row
    that is too long for the screen goes on in the next line.
    """

    titles: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[str]]]  # cells, and lines below

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        table = [self.titles, *(cells for cells, _ in self.rows)]
        kept = [i for i in range(len(self.titles)) if any(cells[i] not in NOTHING for cells, _ in self.rows)]
        widths = {i: max(cell_len(cells[i]) for cells in table) for i in kept}

        def line(cells: Sequence[str], style: str = "") -> Text:
            padded = (cells[i] + " " * (widths[i] - cell_len(cells[i])) for i in kept)
            return Text("  ".join(padded).rstrip(), style, overflow="fold")

        if not self.rows:
            return
        yield line(self.titles, "bold")
        yield Text("─" * min(options.max_width, sum(widths.values()) + 2 * (len(kept) - 1)))
        for cells, below in self.rows:
            yield line(cells)
            for said in filter(None, below):
                yield Padding(Text(said, overflow="fold"), (0, 0, 0, 4), expand=False)


# -- status

STATUS = (
    Column(title="node", whole=True),
    Column(title="site", whole=True),
    Column(title="role", whole=True),
    Column(title="in step"),
    Column(title="ready"),
    Column(title="timeline"),
    Column(title="replay lag"),
)


def unheard(cluster: Mapping[str, Any], configured: Mapping[str, str]) -> dict[str, str]:
    """The nodes (with their sites) that are configured, by the agent or by our own settings, and have no record. One
    that counts as gone for good is not missed.
    """
    known = dict(configured) | {node["node"]: node["site"] for node in cluster.get("nodes", [])}
    heard = {member["node"] for member in cluster.get("members", [])} | set(cluster.get("retired", ()))
    return {node: site for node, site in known.items() if node not in heard}


def broken_lines(told: Mapping[str, Any]) -> list[Text]:
    """Before all else that is told: what is promised is not sure."""
    return [
        Text(f"invariant broken: {broken['invariant']}: {broken['what']}", "bold red")
        for broken in told.get("invariants_broken", [])
    ]


def status_lines(cluster: Mapping[str, Any], configured: Mapping[str, str] | None = None) -> RenderableType:
    """The one-screen answer to "how are we?"; a word stands beside every colour. `configured`: node -> site."""
    rows, lines = [], []
    members = {member["node"]: member for member in cluster.get("members", [])}
    missing = unheard(cluster, configured or {})
    in_step = {standby["node"] for standby in cluster.get("sync", [])}
    for node in sorted({*members, *missing}):
        leads = node == cluster.get("leader")
        stands = Text("-") if leads else Text("yes", "green") if node in in_step else Text("no", "yellow")
        if node in missing:
            role = Text("leader" if leads else "unknown", "red")
            row: tuple[str | Text, ...] = (
                missing[node],
                role,
                stands,
                Text("no", "red"),
                Text("-"),
                Text("-"),
            )
            lines.append(Text(f"{node}: {NOT_HEARD}"))
        else:
            row = _member_row(members[node], leads=leads, stands=stands)
            lines += [Text(f"{node}: {reason}") for reason in members[node].get("reasons", [])]
        rows.append([Text(node), *(cell if isinstance(cell, Text) else Text(cell) for cell in row)])
    lines += [Text(f"settings differ: {said}", "yellow") for said in cluster.get("settings_differ", [])]
    if alarm := cluster.get("etcd_alarm"):
        lines.append(Text(alarm, "red"))
    bad = cluster.get("bad_records", {})
    lines += [Text(f"not believed in etcd: {name!a}: {why!a}", "red") for name, why in bad.items()]
    lines += broken_lines(cluster)
    decision = cluster.get("decision")
    if decision:
        lines.append(Text(f"{cluster.get('told_by')}: {decision['sentence']}", "dim"))
    return Group(*_headlines(cluster), table_of(STATUS, rows), *lines)


def _member_row(member: Mapping[str, Any], *, leads: bool, stands: Text) -> tuple[str | Text, ...]:
    lag = max(0, member.get("received_lsn", 0) - member.get("replayed_lsn", 0))
    return (
        member["site"],
        Text("leader", "bold") if leads else member["role"],
        stands,
        Text("yes", "green") if member.get("ready") else Text("no", "red"),
        str(member.get("timeline", "?")),
        f"{lag} B",
    )


def _headlines(cluster: Mapping[str, Any]) -> list[Text]:
    live, durability, swap = cluster.get("live_site"), cluster.get("durability"), cluster.get("swap")
    # Records outlive the leader: what they promise holds again only when somebody leads.
    told = str(durability) if live else "unknown while nobody leads"
    parts = [
        Text.assemble("live site ", (live or "none", "bold")),
        Text(f"term {cluster.get('term')}"),
        Text.assemble("durability ", (told, "green" if told == "two-site" else "yellow")),
    ]
    if swap:
        parts.append(Text(f"swap to {swap['to_node']}: {swap['phase']}", "cyan"))
    lines = [Text("  ·  ").join(parts)]
    if not cluster.get("etcd_reached", True):
        lines.append(
            Text(
                f"an old picture: {cluster.get('told_by')} does not reach etcd, nor does any other", "yellow"
            )
        )
    if cluster.get("paused"):
        by, reason = cluster.get("paused_by"), cluster.get("paused_reason")
        who = f" by {by}" if by else ""
        why = f": {reason}" if reason else ""
        lines.append(Text.assemble((f"automatic swaps paused{who}", "yellow"), why))
        if not live:
            lines.append(Text(f"nobody leads, and automatic swaps are paused: {RESUME}", "yellow"))
    lines += planned_lines(cluster.get("planned"))
    lines += [Text(window_line(window), "yellow") for window in cluster.get("maintenance", [])]
    health = cluster.get("health") or {}
    if health.get("failback"):
        lines.append(Text(f"back to the preferred site: {'; '.join(health['failback'])}"))
    if health.get("told"):
        decision = health.get("decision") or {}
        lines += [
            Text(health["told"], "yellow"),
            Text(f"health: {decision.get('sentence', 'not decided yet')}"),
        ]
    return [*lines, Text()]


def window_line(window: Mapping[str, Any]) -> str:
    """One window of maintenance."""
    until = str(window.get("until", ""))[:16].replace("T", " ")
    return f"{window.get('site')} is in maintenance until {until} UTC, by {window.get('by')}: {window.get('reason')}"


def planned_line(planned: Mapping[str, Any]) -> str:
    at, reason = str(planned["at"])[:19].replace("T", " "), planned.get("reason")
    why = f": {reason}" if reason else ""
    return f"swap {planned['id']} to {planned['to']} is planned for {at} UTC, by {planned['by']}{why}"


def planned_lines(planned: Mapping[str, Any] | None) -> list[Text]:
    """The swap that is planned, and what would stand in its way as it is now."""
    if not planned:
        return []
    obstacles = "; ".join(planned["in_the_way"])
    return [
        Text(planned_line(planned), "cyan"),
        *([Text(f"  as it is now it would be refused: {obstacles}", "yellow")] if obstacles else []),
    ]


# -- history

HISTORY = ("term", "when (UTC)", "what", "live site", "by")


def history_lines(entries: Sequence[Mapping[str, Any]], *, evidence: bool = False) -> RenderableType:
    rows = []
    for e in entries:
        when = str(e.get("at", ""))[:19].replace("T", " ")
        cells = (e.get("term"), when, e.get("kind"), e.get("site"), e.get("by"))
        # An entry that does not decode has nothing but its key, and what is wrong with it.
        bad = f"{e['key']!a} is not believed: {e['bad']!a}" if "bad" in e else ""
        # By its id `sitectl history ID` finds a swap.
        swap = f"swap {e['evidence']['id']}" if "id" in (e.get("evidence") or {}) else ""
        rows.append(
            (["" if cell is None else str(cell) for cell in cells], (e.get("reason") or "", swap, bad))
        )
    phases: list[RenderableType] = [
        Phrases(
            head=f"{e.get('kind')}, term {e.get('term')}, in ms:",
            phrases=[f"{name} {ms}" for name, ms in e[DURATIONS].items()],
        )
        for e in entries
        if e.get(DURATIONS)
    ]
    if phases:
        phases.insert(0, Text())
    proofs = [_evidence(e) for e in entries if evidence and e.get("evidence")]
    return Group(Listing(titles=HISTORY, rows=rows), *phases, *proofs)


def _evidence(entry: Mapping[str, Any]) -> RenderableType:
    """What an entry was decided on, as it was written."""
    table = Table(box=None, show_header=False, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, said in entry["evidence"].items():
        table.add_row(Text(f"  {name}"), Text(str(said)))
    return Group(Text(f"\n{entry.get('kind')}, term {entry.get('term')}, on this evidence:"), table)


# -- node list

NODES = (
    Column(title="node", whole=True),
    Column(title="site", whole=True),
    Column(title="role", whole=True),
    Column(title="postgres"),
    Column(title="timeline"),
    Column(title="ready"),
    Column(title="deciding rule"),
)


def node_lines(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """`rows`: of each node `node`, `site`, `reached`, and what its agent told."""
    silent = [Text(f"{row['node']}: its agent is silent", "red") for row in rows if not row["reached"]]
    told = ((row["node"], (row.get("quarantine") or {}).get("alarm")) for row in rows)
    alarms = [Text(f"{node}: {alarm}", "yellow") for node, alarm in told if alarm is not None]
    return Group(table_of(NODES, [_node_row(row) for row in rows]), *silent, *alarms)


def _node_row(row: Mapping[str, Any]) -> list[Text]:
    postgres = row.get("postgres", {})
    told = (
        row["node"],
        row["site"],
        row.get("role", "-"),
        postgres.get("state", "-"),
        postgres.get("timeline", "-"),
        "-" if not row["reached"] else "yes" if row.get("ready") else "no",
        (row.get("decision") or {}).get("rule", "-"),
    )
    return [Text(str(cell)) for cell in told]


def set_aside_lines(files: Sequence[SetAside]) -> RenderableType:
    """`node quarantine list`."""
    columns = [Column(title=t, whole=t == "file") for t in ("file", "node", "messages", "rows", "state")]
    rows = []
    for file in files:
        header = file.header
        state = (
            "settled" if file.settled else "waits for you" if header.error is None else "could not be read"
        )
        cells = (file.name, header.node, str(header.counts.get("message", 0)), str(header.rows), state)
        rows.append([Text(cell) for cell in cells])
    failed = [Text(f"{file.name}: {file.header.error}") for file in files if file.header.error is not None]
    return Group(table_of(columns, rows), *failed)


def set_aside_rows(file: SetAside, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """`node quarantine show`: where it comes from, its messages, and how many other rows there are."""
    header = file.header
    lines = [
        Text(f"{header.node} ({header.site}), {header.at:%Y-%m-%d %H:%M:%S} UTC; {header.leader} leads"),
        Text(
            f"timeline {header.timeline} left the leader's ({header.leader_timeline}) at {header.fork_lsn or '?'},"
            f" and ended at {header.end_lsn or '?'}"
        ),
        Text(f"rows: {', '.join(f'{count} {name}' for name, count in header.counts.items()) or 'none'}"),
    ]
    if header.error is not None:
        lines.append(Text(f"it could not be read: {header.error}"))
    if not header.complete:
        lines.append(Text("it is not complete"))
    if header.counts and not header.compared:
        lines.append(Text("the leader did not tell which of these it has: some may be there"))
    messages = [row for row in rows if row["table"] == "message"]
    columns = [Column(title="reference", least=12), Column(title="to", whole=True), Column(title="account"),
               Column(title="text", least=20), Column(title="withheld")]  # fmt: skip
    cells = [
        [Text(str(cell)) for cell in (
            (row.get("request") or {}).get("reference", "-"), row["row"]["recipient"], row["account"] or "-",
            row["row"]["body"], row["withheld"] or "-")]
        for row in messages
    ]  # fmt: skip
    return Group(*lines, *([table_of(columns, cells)] if messages else []))


def outcome_lines(outcomes: Sequence[Mapping[str, str]]) -> RenderableType:
    """`node quarantine replay`: each message, and a line that counts them."""
    columns = [
        Column(title="reference", least=12),
        Column(title="to", whole=True),
        Column(title="verdict", whole=True),
        Column(title="detail", least=20),
    ]
    rows = [[Text(outcome[column.title]) for column in columns] for outcome in outcomes]
    counts = Counter(outcome["verdict"] for outcome in outcomes)
    return Group(
        table_of(columns, rows), Text(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    )
