r"""How a text becomes octets: GSM 03.38 when every character is in it, else UCS-2; and where it is cut.

Pure: the same functions count segments for the API's answer, cut the text when it is sent, and read what
customers reply. The rules (3GPP TS 23.038 and 23.040):

- The default alphabet has 128 characters of one septet; ten more (`^{}\[~]|` with the euro sign and form
  feed) take two, an escape and a character. SMPP carries septets unpacked, one in each octet.
- UCS-2 is sent as UTF-16BE, so characters beyond U+FFFF take two units.
- One segment holds 160 septets or 70 units; a longer text has a header of six octets in every part, which
  leaves 153 or 67.
- A part never ends inside an escape pair or a surrogate pair: handsets show rubbish there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dispatcher.model import Encoding

MAX_SEGMENTS: Final = 255  # the header counts parts in one octet

_ESCAPE: Final = "\x1b"
_ESCAPE_OCTET: Final = 0x1B
_DEFAULT: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION: Final = {
    "\f": 0x0A,
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
}
_ONE_SEPTET: Final = frozenset(_DEFAULT) - {_ESCAPE}
_TWO_SEPTETS: Final = frozenset(_EXTENSION)
_GSM: Final = _ONE_SEPTET | _TWO_SEPTETS
_TO_SEPTETS: Final = {
    **{ord(char): chr(code) for code, char in enumerate(_DEFAULT) if char != _ESCAPE},
    **{ord(char): _ESCAPE + chr(code) for char, code in _EXTENSION.items()},
}
_FROM_SEPTETS: Final = (_DEFAULT + "\ufffd" * 128).replace(_ESCAPE, "\ufffd")  # a whole octet at a time
_FROM_EXTENSION: Final = {chr(code): char for char, code in _EXTENSION.items()}

_LIMITS: Final = {Encoding.GSM: (160, 153), Encoding.UCS2: (70, 67)}  # alone, and as a part
_DATA_CODING: Final = {Encoding.GSM: 0x00, Encoding.UCS2: 0x08}


class UnencodableError(ValueError):
    """The text holds half of a surrogate pair, which is no character: nothing can be sent for it."""


@dataclass(frozen=True, kw_only=True)
class Offending:
    """A character that is not in GSM 03.38 and so makes the whole text UCS-2."""

    index: int
    char: str


def choose(text: str) -> Encoding:
    """GSM when every character allows it, else UCS-2. Raises UnencodableError for half a surrogate pair."""
    if _GSM.issuperset(text):
        return Encoding.GSM
    try:
        text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise UnencodableError(f"character {error.start} is half of a surrogate pair") from error
    return Encoding.UCS2


def offending(text: str) -> tuple[Offending, ...]:
    """The characters that keep the text out of GSM 03.38, in order; empty when it is GSM."""
    if _GSM.issuperset(text):
        return ()
    return tuple(Offending(index=i, char=char) for i, char in enumerate(text) if char not in _GSM)


def units(text: str, encoding: Encoding) -> int:
    """How much room the text takes: septets of GSM, or 16-bit units of UCS-2."""
    return len(text) + sum(map(text.count, _wide(text, encoding)))


def count_segments(text: str, encoding: Encoding) -> int:
    """How many texts the carrier will count; 1 for an empty text. May exceed MAX_SEGMENTS: refuse that."""
    alone, part = _LIMITS[encoding]
    size = units(text, encoding)
    if size <= alone:
        return 1
    if size == len(text):
        return -(-size // part)
    return sum(1 for _ in _cuts(text, encoding, part))


def split(text: str, encoding: Encoding) -> tuple[str, ...]:
    """The parts of the text, in order; together they are the text."""
    alone, part = _LIMITS[encoding]
    size = units(text, encoding)
    if size <= alone:
        return (text,)
    if size == len(text):
        return tuple(text[i : i + part] for i in range(0, size, part))
    return tuple(text[start:end] for start, end in _cuts(text, encoding, part))


def data_coding(encoding: Encoding) -> int:
    """SMPP's data_coding (section 5.2.19) for the encoding."""
    return _DATA_CODING[encoding]


def encode(text: str, encoding: Encoding) -> bytes:
    """The octets of a text without header. Raises UnencodableError for what the encoding cannot say."""
    if encoding is Encoding.GSM:
        if not _GSM.issuperset(text):
            raise UnencodableError(f"not in GSM 03.38: {offending(text)[0].char!r}")
        return text.translate(_TO_SEPTETS).encode("latin-1")
    try:
        return text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise UnencodableError(f"character {error.start} is half of a surrogate pair") from error


def decode(octets: bytes, encoding: Encoding) -> str:
    """The text of received octets; never fails: what means nothing becomes U+FFFD.

    An unknown escape shows the character of the default alphabet, as TS 23.038 asks of a handset.
    """
    if encoding is Encoding.UCS2:
        return octets.decode("utf-16-be", errors="replace")
    if _ESCAPE_OCTET not in octets:
        return octets.decode("latin-1").translate(_FROM_SEPTETS)
    text, escaped = [], False
    for octet in octets:
        char = _DEFAULT[octet] if octet < len(_DEFAULT) else "\ufffd"
        if escaped:
            text.append(_FROM_EXTENSION.get(chr(octet), " " if char == _ESCAPE else char))
            escaped = False
        elif char == _ESCAPE:
            escaped = True
        else:
            text.append(char)
    return "".join(text)


@dataclass(frozen=True, kw_only=True)
class Concatenation:
    """The header of one part of a longer text (TS 23.040, 9.2.3.24.1)."""

    reference: int  # the same in all parts
    total: int
    number: int  # from 1


def header(concatenation: Concatenation) -> bytes:
    """The user data header with an 8-bit reference: six octets."""
    return bytes((5, 0, 3, concatenation.reference, concatenation.total, concatenation.number))


def read_header(user_data: bytes) -> tuple[Concatenation | None, bytes]:
    """Part information (8- or 16-bit reference, None if there is none) and what follows the header.

    Only for user data whose esm_class says that a header is there. One that runs past the end is no header.
    """
    if not user_data or 1 + user_data[0] > len(user_data):
        return None, user_data
    end = 1 + user_data[0]
    at, found = 1, None
    while at + 2 <= end:
        element, size = user_data[at], user_data[at + 1]
        value = user_data[at + 2 : min(at + 2 + size, end)]
        if element == 0x00 and len(value) == size == 3:
            found = Concatenation(reference=value[0], total=value[1], number=value[2])
        elif element == 0x08 and len(value) == size == 4:
            found = Concatenation(reference=value[0] << 8 | value[1], total=value[2], number=value[3])
        at += 2 + size
    return found, user_data[end:]


def segment_octets(body: str, encoding: Encoding, *, number: int, reference: int) -> bytes:
    """User data of part `number` (from 1) of `body`; with a header when there is more than one part.

    Raises IndexError when there is no such part, ValueError when there are more than MAX_SEGMENTS.
    """
    parts = split(body, encoding)
    octets = encode(parts[number - 1], encoding)
    if len(parts) == 1:
        return octets
    if len(parts) > MAX_SEGMENTS:
        raise ValueError(f"{len(parts)} parts, and the header counts to {MAX_SEGMENTS}")
    return header(Concatenation(reference=reference, total=len(parts), number=number)) + octets


def _wide(text: str, encoding: Encoding) -> frozenset[str]:
    """The characters of the text that take two units."""
    if encoding is Encoding.GSM:
        return _TWO_SEPTETS.intersection(text)
    if text.isascii() or max(text, default="") <= "\uffff":
        return frozenset()
    return frozenset(char for char in set(text) if char > "\uffff")


def _cuts(text: str, encoding: Encoding, limit: int) -> Iterator[tuple[int, int]]:
    """Where the parts of a text with two-unit characters begin and end."""
    wide = _wide(text, encoding)
    start = room = 0
    for index, char in enumerate(text):
        need = 2 if char in wide else 1
        if room + need > limit:
            yield start, index
            start, room = index, 0
        room += need
    yield start, len(text)
