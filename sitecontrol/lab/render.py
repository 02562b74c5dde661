"""Writes what the processes of a lab read: each place's settings, the emulator's doors, the secrets.

Settings and doors are written anew at each start. A secret is made once and kept: it stands in the databases.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import jinja2

from sitecontrol.lab.plan import LabNode, Plan
from sitecontrol.lab.ports import PLACES, SITES
from sitecontrol.lab.wan_routes import WanConfig

GENERATED = (
    "postgres-replication",
    "postgres-rewind",
    "postgres-migrate",
    "postgres-dispatch",
    "postgres-monitor",
    "operator-token",
    "etcd-password",
    "lab-token",
)
CARRIER_PASSWORD = "hotsite"  # noqa: S105 # what an SMSC of somebody else is told unless a password was given
SMPP_PASSWORD_MAX = 8


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sitecontrol.lab"),
        autoescape=False,  # noqa: S701 # TOML; every value passes through the filter `toml` or is made by us
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    # A JSON string or array of strings is a TOML one, except for the escape of DEL, which JSON does not make.
    environment.filters["toml"] = lambda value: json.dumps(str(value) if isinstance(value, Path) else value)
    environment.filters["combine"] = lambda first, second: {**first, **second}
    return environment


def place_settings(plan: Plan, here: str, node: LabNode | None = None) -> str:
    """The TOML of one place: addresses at home direct, elsewhere through the WAN emulator's doors. `node`: of a site's
    other nodes than its first.
    """
    node = node or next(iter(plan.nodes(here)), None)
    installation = plan.lab.installation
    others = [place for place in PLACES if place != here]
    return (
        _templates()
        .get_template("place.toml.j2")
        .render(
            plan=plan,
            lab=plan.lab,
            here=here,
            node=node,
            places=PLACES,
            sites=SITES,
            ports=plan.ports.place(here),
            state_dir=plan.directory.state(node.key if node else here),
            secrets_dir=plan.directory.secrets,
            etcd_endpoints=[f"http://{plan.address(here, place, 'etcd')}" for place in (here, *others)],
            data_dir=installation.data_dir(node.key) if node else None,
            socket_dir=installation.postgres_home(node.key) / "socket" if node else None,
            bin_dir=installation.postgres_bin,
            run_as=installation.run_as,
        )
    )


def wan_config(plan: Plan) -> WanConfig:
    return WanConfig(
        control=plan.ports.wan,
        token_file=plan.directory.token_file,
        wan_ms=plan.lab.options.wan_ms,
        routes=plan.routes,
        etcd_pidfiles={place: plan.directory.pidfile(f"{place}-etcd") for place in PLACES},
    )


def write_all(plan: Plan, carrier_passwords: Mapping[str, str]) -> None:
    """Everything of the above. `carrier_passwords`: those given for SMSCs that run already."""
    directory = plan.directory
    for name in GENERATED:
        _keep_secret(plan.secret(name), secrets.token_urlsafe(24))
    for carrier in plan.carriers:
        path = plan.secret(f"carrier-{carrier.name}")
        if carrier.simulated:
            _keep_secret(path, secrets.token_hex(SMPP_PASSWORD_MAX // 2))
        elif carrier.name in carrier_passwords:
            write_private(path, carrier_passwords[carrier.name])
        else:
            _keep_secret(path, CARRIER_PASSWORD)
    for place in PLACES:
        for wrong in plan.wall_offsets(place):
            wrong.unlink(missing_ok=True)
        directory.state(place).mkdir(mode=0o755, exist_ok=True)
        directory.config(place).write_text(place_settings(plan, place))
    for node in plan.all_nodes:
        directory.state(node.key).mkdir(mode=0o755, exist_ok=True)
        directory.config(node.key).write_text(place_settings(plan, node.site, node))
    directory.wan_config.write_text(wan_config(plan).model_dump_json(indent=1))
    directory.identity_file.write_text(plan.lab.model_dump_json(indent=1))


def _keep_secret(path: Path, value: str) -> None:
    if not path.exists():
        write_private(path, value)


def write_private(path: Path, text: str) -> None:
    """Written so that nobody else could read it at any moment, and never half."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    fresh.replace(path)
