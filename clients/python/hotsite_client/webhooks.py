"""What a receiver of webhooks does with a post before it believes it.

    event = verify(body, headers, secret)

Signatures are those of Standard Webhooks 1.0, whose own libraries do as well.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from hotsite_client.errors import HotsiteError

TOLERANCE_S = 300.0


class NotVerified(HotsiteError):
    """The post is not ours, or it is old: answer with 400, and do nothing."""


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> dict[str, Any]:
    """The event in a post. `body`: the bytes as they came; `secret`: `whsec_…`.

    Raises NotVerified, and ValueError for a secret that is none. A post may come more than once: its `id` is the same.
    """
    key = _key(secret)
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, at, signatures = (lower[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise NotVerified(f"the header {missing} is missing") from None
    if not (at.isascii() and at.isdigit() and len(at) < 16):
        raise NotVerified("webhook-timestamp is not a number of seconds")
    if abs((time.time() if now is None else now) - int(at)) > tolerance_s:
        raise NotVerified("the post is older, or newer, than is taken; look at this machine's clock")
    expected = hmac.digest(key, f"{event_id}.{at}.".encode() + body, hashlib.sha256)
    if not any(hmac.compare_digest(expected, given) for given in _given(signatures)):
        raise NotVerified("no signature is by this secret")
    event = json.loads(body)
    if not isinstance(event, dict):
        raise NotVerified("the body is no event")
    return event


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise ValueError("the secret is not one: it begins with whsec_ and goes on in base64")
    return key


def _given(signatures: str) -> list[bytes]:
    """The signatures of version 1; others are for later."""
    found = []
    for one in signatures.split():
        version, _, value = one.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(value, validate=True))
            except (ValueError, binascii.Error):
                continue
    return found
