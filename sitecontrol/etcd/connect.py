"""From settings to a client: endpoints, certificates, password."""

from pathlib import Path

import grpc

from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd
from sitecontrol.etcd.client import GrpcEtcd
from sitecontrol.settings import EtcdSettings, Secrets, SettingsError


def connect(settings: EtcdSettings, secrets: Secrets, clock: Clock) -> Etcd:
    """A client that keeps a connection to every endpoint; call it inside a running event loop, and close it.

    Returns at once, whether etcd can be reached or not. Raises SettingsError for a missing secret or
    certificate.
    """
    return GrpcEtcd(
        settings.endpoints,
        clock,
        credentials=_credentials(settings),
        login=(settings.user, secrets.get("etcd-password")) if settings.user else None,
        call_timeout=settings.call_timeout,
    )


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    """Certificates for https endpoints; None when there are only http ones."""
    if not any(url.startswith("https://") for url in settings.endpoints):
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_read("etcd.ca_file", settings.ca_file),
        private_key=_read("etcd.key_file", settings.key_file),
        certificate_chain=_read("etcd.cert_file", settings.cert_file),
    )


def _read(setting: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{setting} = {str(path)!r}: {error.strerror}; name a PEM file that this user can read"
        ) from error
