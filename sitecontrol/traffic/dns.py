"""DNS by RFC 2136: the record that clients look up names the live site's addresses. dnspython does the talking.

Everything goes over TCP to the zone's primary and is signed both ways (TSIG, RFC 8945): an update as well as what is
read, so that nobody on the way can make a wrong zone look right.
"""

import asyncio
import binascii
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig

from sitecontrol.settings import DnsTraffic, Secrets, SettingsError
from sitecontrol.traffic import dns_record
from sitecontrol.traffic.api import AdapterFailed, Move

SECRET = "traffic-dns-key"  # noqa: S105 # the secret's name
TRIES = 3  # when somebody else writes between our look and our update

CHANGED = (dns.rcode.NXRRSET, dns.rcode.YXRRSET)  # the prerequisite did not hold
CURES = {
    dns.rcode.REFUSED: "allow this key to update the record and its TXT record",
    dns.rcode.NOTAUTH: "name the zone's primary, and give it our key",
    dns.rcode.NOTZONE: "the record is not in the zone",
}


class DnsAdapter:
    name = "dns"

    def __init__(self, settings: DnsTraffic, key: dns.tsig.Key) -> None:
        self._settings = settings
        self._key = key
        self.deadline = settings.deadline

    async def point_to(self, move: Move) -> None:
        async with _within(self.deadline):
            for _ in range(TRIES):
                if await self._write(move):
                    return
        raise AdapterFailed(f"somebody else writes {self._settings.record} again and again: find out who")

    async def check(self, move: Move) -> str | None:
        async with _within(self.deadline):
            seen = await self._look()
            dns_record.may_write(seen, move, self._settings.record)
            return dns_record.what_is_wrong(seen, move, self._settings)

    def plan(self, move: Move) -> list[str]:
        return dns_record.plan(move, self._settings)

    async def _write(self, move: Move) -> bool:
        """False: what stands there changed between our look and our update, and nothing was written."""
        seen = await self._look()
        dns_record.may_write(seen, move, self._settings.record)
        if dns_record.what_is_wrong(seen, move, self._settings) is None:
            return True
        answer = await self._ask(dns_record.update_of(seen, move, self._settings, self._key))
        if answer.rcode() in CHANGED:
            return False
        _refused(answer.rcode(), "the update")
        # Some updates are taken and do nothing: an address is not put beside a CNAME.
        wrong = dns_record.what_is_wrong(await self._look(), move, self._settings)
        if wrong is not None:
            raise AdapterFailed(f"the update was taken, and yet {wrong}")
        return True

    async def _look(self) -> dns_record.Seen:
        name, mark = (
            dns.name.from_text(self._settings.record),
            dns_record.mark_name(self._settings.record),
        )
        found = await asyncio.gather(
            self._read(mark, "TXT"), *(self._read(name, kind) for kind in dns_record.KINDS)
        )
        addresses = [records for records in found[1:] if records is not None]
        return dns_record.Seen(
            addresses=frozenset(str(ipaddress.ip_address(r.to_text())) for rs in addresses for r in rs),
            ttl=max((records.ttl for records in addresses), default=None),
            mark=found[0],
        )

    async def _read(self, name: dns.name.Name, kind: str) -> dns.rdataset.Rdataset | None:
        query = dns.message.make_query(name, kind)
        query.use_tsig(self._key)
        answer = await self._ask(query)
        if answer.rcode() != dns.rcode.NXDOMAIN:
            _refused(answer.rcode(), f"the question for {name}")
        return answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.from_text(kind))

    async def _ask(self, message: dns.message.Message) -> dns.message.Message:
        host, _, port = self._settings.server.rpartition(":")
        try:
            answer = await dns.asyncquery.tcp(message, host.strip("[]"), port=int(port))
        except (dns.tsig.PeerError, dns.tsig.BadKey) as error:
            raise AdapterFailed(
                f"{self._settings.server} does not accept the key {self._settings.key_name}"
                f" ({type(error).__name__}): compare its name, algorithm and secret, and both clocks;"
                " Knot says so, too, when the key may not update these names"
            ) from error
        except dns.exception.FormError as error:  # without a signature, for one
            raise AdapterFailed(
                f"{self._settings.server} gave an answer that proves nothing ({error}): is it the primary of"
                f" {self._settings.zone}, and does it know our key?"
            ) from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise AdapterFailed(f"{self._settings.server}: {error or type(error).__name__}") from error
        if not answer.had_tsig:  # before 2.9 dnspython lets that pass
            raise AdapterFailed(f"{self._settings.server} gave an answer that is not signed")
        return answer


def _refused(rcode: dns.rcode.Rcode, what: str) -> None:
    if rcode != dns.rcode.NOERROR:
        cure = CURES.get(rcode, "see the server's log")
        raise AdapterFailed(f"the server answered {what} with {dns.rcode.to_text(rcode)}: {cure}")


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """A deadline whose passing is the adapter's failure."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise AdapterFailed(f"no answer within {seconds:g} s") from None


def key_of(settings: DnsTraffic, secrets: Secrets) -> dns.tsig.Key:
    """Raises SettingsError."""
    try:
        return dns.tsig.Key(
            dns.name.from_text(settings.key_name), secrets.get(SECRET), f"{settings.key_algorithm}."
        )
    except (binascii.Error, ValueError) as error:
        raise SettingsError(
            f"the secret {SECRET!r} is no TSIG key: it must be base64, as `tsig-keygen` or `keymgr -t` prints it"
        ) from error
