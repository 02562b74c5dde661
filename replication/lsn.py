"""Positions in the write-ahead log: PostgreSQL's `16/B374D848`, as plain integers that can be compared."""


def parse(text: str) -> int:
    """The position written as two hexadecimal halves. Raises ValueError."""
    high, slash, low = text.strip().partition("/")
    if not slash or len(high) > 8 or len(low) > 8:
        raise ValueError(f"not a WAL position: {text!r}")
    return int(high, 16) << 32 | int(low, 16)


def show(position: int) -> str:
    """As PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFF_FFFF:X}"
