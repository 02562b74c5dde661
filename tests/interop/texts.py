"""Claims as the queue hands them out, and what a link makes of them: the texts that go to other people's SMSCs."""

from uuid import UUID

from dispatcher.encoding import choose, count_segments
from dispatcher.model import Claim, MessageClass
from dispatcher.smpp.compose import compose
from dispatcher.smpp.submission import Submit
from sitecontrol.settings_carriers import Carrier

CUSTOMER = "15550001111"
SHORT_CODE = "12345"
GSM = "Power is back @ 5 pm: {€5} credit, à bientôt!"
UCS2 = "Свет включён ⚡😀"
LONG_GSM = "The crew has reached your street {1}. " * 12
LONG_UCS2 = "Бригада на вашей улице 😀. " * 8
TEXTS = {"gsm": GSM, "ucs2": UCS2}
LONG_TEXTS = {"gsm": LONG_GSM, "ucs2": LONG_UCS2}


def submits(carrier: Carrier, body: str, *, expires_in_s: float | None = None) -> list[Submit]:
    """All parts of a text."""
    encoding = choose(body)
    segments = count_segments(body, encoding)
    return [
        compose(
            Claim(
                claim_id=1,
                message_id=UUID(int=0xA7),
                segment=number,
                segments=segments,
                attempt=1,
                account_id=1,
                program_id=1,
                source=SHORT_CODE,
                to=f"+{CUSTOMER}",
                body=body,
                encoding=encoding,
                message_class=MessageClass.SERVICE,
                expires_in_s=expires_in_s,
            ),
            carrier,
            expires_in_s=expires_in_s,
        )
        for number in range(1, segments + 1)
    ]
