"""TLS: the handshake is done, the certificate is valid for this name, and for how long."""

import asyncio
import ssl
import time
from datetime import UTC, datetime

from healthcheck.probes.result import Result, host_port
from healthcheck.targets import Target

CERTIFICATE_LEFT_DAYS = 7  # below this the look is bad: the certificate must be replaced now


class TlsProbe:
    """`context` says whose certificates are trusted; None: those that the system trusts."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context or ssl.create_default_context()

    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline
        host, port = host_port(target.address)
        began = time.perf_counter()
        try:
            _, writer = await asyncio.open_connection(host, port, ssl=self._context, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            latency = time.perf_counter() - began
            return Result(ok=False, latency=latency, detail=f"certificate refused: {error.verify_message}")
        latency = time.perf_counter() - began
        certificate = writer.get_extra_info("peercert") or {}
        writer.transport.abort()
        return judge_certificate(str(certificate.get("notAfter", "")), datetime.now(UTC), latency)


def judge_certificate(not_after: str, now: datetime, latency: float) -> Result:
    """`not_after` as Python's ssl gives it: "Jun  1 12:00:00 2026 GMT"."""
    if not not_after:
        return Result(ok=False, latency=latency, detail="the certificate tells no end")
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC)
    days = (ends - now).total_seconds() / 86_400
    return Result(
        ok=days >= CERTIFICATE_LEFT_DAYS,
        latency=latency,
        detail=f"the certificate is valid for another {days:.0f} days, until {ends:%Y-%m-%d}",
        evidence={"not_after": ends.isoformat(), "days_left": round(days, 1)},
    )
