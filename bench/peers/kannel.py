"""Kannel as Debian ships it: bearerbox and smsbox, one SMPP link with a window, receipts asked for.

It says 202 when bearerbox has the text. Measured twice: without a store, and with its spool, where bearerbox has
written the text to a file of its own by then (it never syncs).
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from bench.peers.gateway import TEXT, Gateway
from bench.peers.programs import CARRIER_ID, CARRIER_PASSWORD, carrier, listens, program, running
from sitecontrol.lab.numbers import fictional_number

PACKAGE = "kannel"
WINDOW = 50  # submits without an answer
QUIET = ("-v", "4")  # on standard error: without it every text costs some twenty lines
RECEIPT_MASK = 3  # delivered and undelivered
PASSWORD = "only-on-loopback"  # noqa: S105 # of a gateway that lives for a minute
MEANS = {
    False: "in the memory of one process: lost with it",
    True: "in a file on one machine, not synced",
}


@dataclass(frozen=True, kw_only=True)
class Ports:
    carrier: int
    admin: int
    boxes: int
    http: int

    @classmethod
    def of(cls, base: int) -> "Ports":
        return cls(carrier=base, admin=base + 1, boxes=base + 2, http=base + 3)


def configuration(ports: Ports, folder: Path, *, spool: bool) -> str:
    """kannel.conf: groups of `key = value`, an empty line between them."""
    store = {"store-type": "spool", "store-location": str(folder / "spool")} if spool else {}
    groups: list[dict[str, str | int]] = [
        {
            "group": "core",
            "admin-port": ports.admin,
            "admin-password": PASSWORD,
            "admin-interface": "127.0.0.1",
            "smsbox-port": ports.boxes,
            "smsbox-interface": "127.0.0.1",
            "box-allow-ip": "127.0.0.1",
            "dlr-storage": "internal",
            "log-file": str(folder / "bearerbox.log"),
            "log-level": 2,
            **store,
        },
        {
            "group": "smsc",
            "smsc": "smpp",
            "smsc-id": "carrier",
            "host": "127.0.0.1",
            "port": ports.carrier,
            "transceiver-mode": 1,
            "smsc-username": CARRIER_ID,
            "smsc-password": CARRIER_PASSWORD,
            "system-type": "VMA",
            "max-pending-submits": WINDOW,
        },
        {
            "group": "smsbox",
            "bearerbox-host": "127.0.0.1",
            "sendsms-port": ports.http,
            "sendsms-interface": "127.0.0.1",
            "log-file": str(folder / "smsbox.log"),
            "log-level": 4,  # below that: two lines for each receipt, which nobody asked to be told of
        },
        {"group": "sendsms-user", "username": "bench", "password": PASSWORD, "user-allow-ip": "127.0.0.1"},
    ]
    return "\n".join(
        "".join(f"{key} = {_quoted(value)}\n" for key, value in group.items()) for group in groups
    )


def _quoted(value: str | int) -> str:
    return str(value) if isinstance(value, int) or value.isalnum() else f'"{value}"'


def request(host: str, number: int) -> bytes:
    query = urlencode(
        {
            "username": "bench",
            "password": PASSWORD,
            "from": "55501",
            "to": fictional_number(number),
            "text": TEXT,
            "dlr-mask": RECEIPT_MASK,
        }
    )
    return f"GET /cgi-bin/sendsms?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@asynccontextmanager
async def running_kannel(folder: Path, base: int, *, spool: bool) -> AsyncIterator[Gateway]:
    """Bound to its carrier and taking texts. Raises NotInstalledError, BenchError."""
    bearerbox, smsbox = program("bearerbox", PACKAGE), program("smsbox", PACKAGE)
    ports = Ports.of(base)
    settings = folder / "kannel.conf"
    settings.write_text(configuration(ports, folder, spool=spool))
    (folder / "spool").mkdir()
    with ExitStack() as stack:
        log = stack.enter_context(carrier(folder, ports.carrier))
        await listens(ports.carrier, "the carrier simulator", folder)
        first = stack.enter_context(running([bearerbox, *QUIET, settings], folder, name="bearerbox"))
        await listens(ports.boxes, "bearerbox", folder)
        second = stack.enter_context(running([smsbox, *QUIET, settings], folder, name="smsbox"))
        await listens(ports.http, "smsbox", folder)
        yield Gateway(
            name=f"Kannel, {'spool' if spool else 'no store'}",
            accepted_means=MEANS[spool],
            doors=[("127.0.0.1", ports.http)],
            request=request,
            kinds={first: "bearerbox", second: "smsbox"},
            carrier_logs=[log],
        )
