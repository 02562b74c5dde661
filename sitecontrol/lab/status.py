"""What `sitectl lab status` tells: the lab's processes with their addresses, and how the system is."""

from typing import Any

import orjson
from rich.table import Table

from sitecontrol.lab import ownership
from sitecontrol.lab.control import Json, LabControl
from sitecontrol.lab.errors import LabUnreachableError
from sitecontrol.lab.plan import LabNode, Plan
from sitecontrol.lab.ports import PLACES, SITES


def accounts_of(plan: Plan) -> list[Json]:
    """The lab's accounts with their keys; none before the lab was brought up once."""
    try:
        return list(orjson.loads(plan.directory.accounts_file.read_bytes()))
    except OSError:
        return []


async def status_of(control: LabControl) -> Json:
    """Asks the supervisor, the agents and the WAN emulator. Only the supervisor must answer."""
    state = await control.state()
    cluster = await control.cluster()
    try:
        lines: list[Json] | None = (await control.lines())["lines"]
    except LabUnreachableError:
        lines = None
    return document(control.plan, state=state, cluster=cluster, lines=lines)


def document(plan: Plan, *, state: Json, cluster: Json, lines: list[Json] | None) -> Json:
    """The document of `lab status --json` (docs/interfaces.md). `lines`: None when nobody tells of them."""
    processes = {process["name"]: process for process in state["processes"]}
    return {
        "id": plan.lab.id,
        "dir": str(plan.directory.root),
        "options": plan.lab.options.model_dump(mode="json"),
        "sites": {place: _place(plan, place, processes, cluster) for place in PLACES},
        "carriers": [
            {
                "name": carrier.name,
                "host": carrier.host,
                "port": carrier.port,
                "pid": processes.get(f"carrier-{carrier.name}", {}).get("pid"),
                "system_id": carrier.system_id,
                "log": str(plan.directory.carrier_log(carrier.name)) if carrier.simulated else None,
            }
            for carrier in plan.carriers
        ],
        "accounts": accounts_of(plan),
        "live_site": cluster.get("live_site"),
        "term": cluster.get("term"),
        # The records promise it for whoever leads next; now nobody does.
        "durability": cluster.get("durability") if cluster.get("live_site") else None,
        "noc_url": f"http://127.0.0.1:{plan.ports.place(SITES[0]).healthcheck}/",
        "lines": lines,
        "supervisor": {"pid": state["pid"]},
        "processes": list(processes.values()),
    }


def _place(plan: Plan, place: str, processes: dict[str, Json], cluster: Json) -> Json:
    def told(name: str) -> Json:
        process = processes[name]
        return {"pid": process["pid"], "url": process["url"]}

    etcd = processes[f"{place}-etcd"]
    answer: dict[str, Any] = {
        "healthcheck": told(f"{place}-healthcheck"),
        "etcd": {"pid": etcd["pid"], "client_url": etcd["url"]},
    }
    if place in SITES:
        first, *others = [_node(plan, node, told(f"{node.key}-agent")) for node in plan.nodes(place)]
        answer |= {
            "live": cluster.get("live_site") == place,
            "dispatchers": [{"name": name, **told(name)} for name, _ in plan.dispatchers(place)],
            "agent": first["agent"],
            "postgres": first["postgres"],
            "nodes": [first, *others],
        }
    return answer


def _node(plan: Plan, node: LabNode, agent: Json) -> Json:
    data_dir = plan.lab.installation.data_dir(node.key)
    postgres = {
        "pid": ownership.postmaster_of(data_dir),
        "port": node.postgres,
        "data_dir": str(data_dir),
        "socket_dir": str(plan.lab.installation.postgres_home(node.key) / "socket"),
    }
    return {"name": node.name, "log": f"{node.key}-postgres", "agent": agent, "postgres": postgres}


def status_table(status: Json) -> Table:
    """The same for people: one row a process."""
    live, durability = status["live_site"] or "nobody", status["durability"] or "unknown"
    cuts = [f"{line['source']} → {line['destination']}" for line in status["lines"] or () if line["cut"]]
    title = f"live site [bold]{live}[/]  ·  term {status['term']}  ·  durability {durability}"
    if cuts:
        title += f"  ·  [red]cut: {', '.join(cuts)}[/]"
    if status["lines"] is None:
        title += "  ·  [yellow]lines unknown: the WAN emulator does not answer[/]"
    table = Table(title=title, title_justify="left", title_style="")
    for column in ("process", "state", "pid", "restarts", "address"):
        table.add_column(column, no_wrap=True)
    for process in status["processes"]:
        running = process["state"] == "running"
        table.add_row(
            process["name"],
            f"[green]{process['state']}[/]" if running else f"[red]{process['state']}[/]",
            str(process["pid"] or "-"),
            str(process["restarts"]),
            (process["url"] or "").removeprefix("http://"),
        )
    for node in (node for site in SITES for node in status["sites"][site]["nodes"]):
        postgres = node["postgres"]
        table.add_row(
            node["log"],
            "[green]running[/]" if postgres["pid"] else "[red]down[/]",
            str(postgres["pid"] or "-"),
            "",
            f"127.0.0.1:{postgres['port']}",
        )
    return table


def is_whole(status: Json) -> bool:
    """Whether everything runs and both sites are in step."""
    if status["lines"] is None:
        return False
    return status["durability"] == "two-site" and all(p["state"] == "running" for p in status["processes"])
