"""The arguments of `sitectl lab` whose rules click does not know: a carrier of one's own, a base port."""

import re
from ipaddress import IPv6Address
from typing import Any, NoReturn

import click

from sitecontrol.lab.plan import ExternalCarrier
from sitecontrol.lab.ports import HIGHEST_BASE, LOWEST_BASE, SPAN

_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_SYSTEM_ID = re.compile(r"[!-~]{1,15}")
_EXAMPLE = "for example: main=hotsite@127.0.0.1:2775"
_HIGHEST_PORT = 65_535


class CarrierType(click.ParamType[ExternalCarrier]):
    name = "NAME=[SYSTEM_ID@]HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ExternalCarrier:
        if isinstance(value, ExternalCarrier):
            return value

        def refuse(rule: str) -> NoReturn:
            self.fail(f"{value!r}: {rule}; {_EXAMPLE}", param, ctx)

        name, equals, address = value.partition("=")
        login, at, place = address.rpartition("@")
        host, colon, port = place.rpartition(":")
        if not equals or not colon:
            refuse(f"must be {self.name}")
        if not _NAME.fullmatch(name):
            refuse(f"NAME is {name!r}, and must be a small letter, then at most 38 of a-z, 0-9 and -")
        if at and not _SYSTEM_ID.fullmatch(login):
            refuse(f"SYSTEM_ID is {login!r}, and must be 1 to 15 letters, digits or signs")
        if not _is_host(host):
            refuse(f"HOST is {host!r}, and must be a name, an IPv4 address, or an IPv6 address in brackets")
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= _HIGHEST_PORT):
            refuse(f"PORT is {port!r}, and must be a number from 1 to {_HIGHEST_PORT}")
        given = {"system_id": login} if at else {}
        return ExternalCarrier(name=name, host=host.strip("[]"), port=int(port), **given)


def _is_host(text: str) -> bool:
    if not (text.startswith("[") and text.endswith("]")):
        return _HOST.fullmatch(text) is not None
    try:
        IPv6Address(text[1:-1])
    except ValueError:
        return False
    return True


class BasePort(click.IntRange):
    """The first of a lab's ports: all of them must exist, and none may need root."""

    name = "PORT"

    def __init__(self) -> None:
        super().__init__(LOWEST_BASE, HIGHEST_BASE)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter as error:
            cure = f"A lab takes {SPAN} ports from there on; for example: 7100"
            self.fail(f"{error.message} {cure}", param, ctx)
