"""The text of octets that came with a data_coding: SMPP v3.4, 5.2.19, and what carriers pass on of 3GPP TS 23.038.

Never fails: what means nothing becomes U+FFFD. Octets that are said to be no text are read as such where they are
plain ASCII, as careless carriers send it, and shown in hexadecimal otherwise.
"""

from typing import Final

from dispatcher.encoding import decode
from dispatcher.model import Encoding

_PYTHONS: Final = {  # data_coding -> the codec's name
    1: "latin-1",  # IA5; Latin-1 keeps every octet
    3: "latin-1",
    5: "shift_jis",
    6: "iso8859_5",
    7: "iso8859_8",
    10: "iso2022_jp",
    13: "euc_jp",
    14: "euc_kr",
}
_BINARY: Final = frozenset({2, 4})
_PLAIN: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\r\n\t")


def text_of(octets: bytes, data_coding: int) -> str:
    """Without NUL: no database could store it as text."""
    return _text_of(octets, data_coding).replace("\0", "\ufffd")


def _text_of(octets: bytes, data_coding: int) -> str:
    if data_coding in _PYTHONS:
        return octets.decode(_PYTHONS[data_coding], errors="replace")
    if data_coding == 8 or _is_ucs2(data_coding):
        return decode(octets, Encoding.UCS2)
    if data_coding in _BINARY or _is_binary(data_coding):
        return octets.decode("ascii") if _PLAIN.issuperset(octets) else octets.hex()
    return decode(octets, Encoding.GSM)


def _is_ucs2(coding: int) -> bool:
    """TS 23.038, 4: the general group with a message class, or a waiting message that is to be stored."""
    return 0xE0 <= coding <= 0xEF or (0x10 <= coding <= 0x7F and coding & 0x0C == 0x08)


def _is_binary(coding: int) -> bool:
    return (coding >= 0xF0 and coding & 0x04 != 0) or (0x10 <= coding <= 0x7F and coding & 0x0C == 0x04)
