"""The compose files as the tests read them, their secrets, and waiting for what containers do."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from sitecontrol.lab.ports import PLACES
from sitecontrol.settings import Settings, load

ROOT = Path(__file__).parents[1]
SETTINGS = "/etc/hotsite/site.toml"  # in every container
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")


def compose(place: str) -> dict[str, Any]:
    data = yaml.safe_load((ROOT / f"docker-compose.{place}.yml").read_text())
    assert isinstance(data, dict)
    return data


def services(place: str) -> dict[str, dict[str, Any]]:
    return dict(compose(place)["services"])


def settings_of(place: str) -> Settings:
    return load(ROOT / "configs" / "docker" / f"{place}.toml")


def everywhere() -> list[tuple[str, str, dict[str, Any]]]:
    return [(place, name, service) for place in PLACES for name, service in services(place).items()]


def flags(command: list[str]) -> dict[str, str]:
    pairs = (word.removeprefix("--").partition("=") for word in command if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def make_secrets(folder: Path) -> Path:
    script = ROOT / "configs" / "docker" / "make_secrets.sh"
    subprocess.run([script, folder], check=True, capture_output=True, timeout=60)
    return folder


def until(holds: Callable[[], bool], within: float, what: str) -> float:
    """Wait until it holds; how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, f"not within {within} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began
