"""The adapters that the settings ask for."""

import os

from sitecontrol.settings import PlaceKind, Secrets, Settings
from sitecontrol.traffic.api import Adapter
from sitecontrol.traffic.command import CommandAdapter
from sitecontrol.traffic.haproxy import HaproxyAdapter


def adapters_of(settings: Settings, secrets: Secrets) -> list[Adapter]:
    """Raises SettingsError when one lacks a secret."""
    traffic = settings.traffic
    found: list[Adapter] = []
    if traffic.haproxy is not None:
        servers = {
            place.name: [dispatcher.name for dispatcher in place.dispatchers]
            for place in settings.place
            if place.kind is PlaceKind.SITE
        }
        found.append(HaproxyAdapter(traffic.haproxy, servers))
    if traffic.dns is not None:
        # Loading dnspython takes a tenth of a second, and many places move nothing by DNS.
        from sitecontrol.traffic.dns import DnsAdapter, key_of  # noqa: PLC0415

        found.append(DnsAdapter(traffic.dns, key_of(traffic.dns, secrets)))
    if traffic.command is not None:
        found.append(CommandAdapter(traffic.command, os.environ))
    return found
