"""`python -m sitecontrol agent` where it cannot work: one line that tells the cure, and status 2."""

import json
import socket
import subprocess
from pathlib import Path

from tests.agents import PLACE, SECRETS, SETTINGS
from tests.ports import free_ports
from tests.postgres import short_folder, tools, unprivileged_user
from tests.sites import TOKEN, clean_environment, command


def configure(folder: Path, *, bin_dir: Path, agent: int) -> Path:
    secrets = folder / "secrets"
    secrets.mkdir()
    for name in SECRETS:
        (secrets / f"postgres-{name}").write_text(name)
    (secrets / "operator-token").write_text(TOKEN)
    user = unprivileged_user()
    postgres, etcd = free_ports(2)
    settings = SETTINGS.format(
        site="columbus",
        node="columbus-a",
        cluster="none",
        home=folder,
        data=folder / "data",
        address="127.0.0.1",
        parameters="",
        folder=folder,
        endpoints=json.dumps([f"http://127.0.0.1:{etcd}"]),
        agent=agent,
        postgres=postgres,
        bin_dir=bin_dir,
        run_as=f'run_as = "{user}"' if user else "",
        lease_ttl=3,
        failover="",
    )
    config = folder / "columbus.toml"
    config.write_text(
        settings
        + PLACE.format(site="columbus", preferred="true", address="127.0.0.1", agent=agent, postgres=postgres)
    )
    return config


def last_words(config: Path) -> str:
    """What it says on stderr, in its one line, when it ends with status 2."""
    ended = subprocess.run(
        command(config), capture_output=True, text=True, timeout=60, env=clean_environment(), check=False
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def test_without_postgresql_the_folder_and_the_cure_are_told() -> None:
    (agent,) = free_ports(1)
    with short_folder("hotsite-p-") as folder:
        empty = folder / "bin"
        empty.mkdir()
        line = last_words(configure(folder, bin_dir=empty, agent=agent))
    assert line.startswith("sitecontrol agent: no usable PostgreSQL")
    assert f"{empty} lacks postgres, initdb" in line
    assert "apt install postgresql" in line


def test_an_address_in_use_is_told_with_the_setting_that_names_it() -> None:
    (agent,) = free_ports(1)
    with short_folder("hotsite-p-") as folder, socket.create_server(("127.0.0.1", agent)):
        line = last_words(configure(folder, bin_dir=tools().folder, agent=agent))
    assert f"agent.listen = '127.0.0.1:{agent}'" in line
    assert "free the port" in line
