"""TLS between our own processes, by `[security]`: with which certificate they answer, and whose they trust.

Agents and health daemons answer by `server_context`; whoever asks them (`sitectl`, agents before the first start,
the health daemon's probes) checks their certificates by `client_context`: against the authorities of the system, and
`security.ca_file` beside them, because machines in a closed net have theirs from an authority of one's own.
"""

import ssl

from sitecontrol.settings import SecuritySettings, SettingsError


def server_context(security: SecuritySettings) -> ssl.SSLContext | None:
    """None when the settings name no certificate. Raises SettingsError when it cannot be used."""
    if security.tls_cert_file is None or security.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(security.tls_cert_file, security.tls_key_file)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"security.tls_cert_file = {str(security.tls_cert_file)!r}, tls_key_file ="
            f" {str(security.tls_key_file)!r}: {error}; name a PEM certificate and its key"
        ) from error
    return context


def client_context(security: SecuritySettings) -> ssl.SSLContext:
    """For asking others, whose certificate must be good for the name or address that was asked."""
    context = ssl.create_default_context()
    if security.ca_file is not None:
        try:
            context.load_verify_locations(cafile=security.ca_file)
        except OSError as error:
            raise SettingsError(
                f"security.ca_file = {str(security.ca_file)!r}: {error}; name a PEM file with the certificate of"
                " your authority"
            ) from error
    return context
