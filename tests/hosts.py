"""Where a test's servers run: on this machine, or in a network namespace that stands for another one."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Host:
    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()  # what is put before a command so that it runs there


HERE = Host()
ALL_HERE: Mapping[str, Host] = {}  # by the name of a place; one that is not named is here
