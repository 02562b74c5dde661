"""Signatures as Standard Webhooks 1.0 has them, so that its libraries check ours (https://www.standardwebhooks.com).

`webhook-id`, `webhook-timestamp` and the body, joined by dots, under HMAC-SHA256; while secrets change there is a
signature by each, and a receiver is content with one.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def shown(secret: bytes) -> str:
    """As it is told to the account, once."""
    return PREFIX + base64.b64encode(secret).decode()


def headers(keys: Sequence[bytes], event_id: UUID, at: int, body: bytes) -> Mapping[str, str]:
    """The three headers. `at`: when it is posted, in whole seconds since 1970."""
    signed = f"{event_id}.{at}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
