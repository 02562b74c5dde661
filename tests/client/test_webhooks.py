"""`verify` takes what Hotsite signs, and nothing else."""

from uuid import UUID

import pytest

from dispatcher.webhooks import signing
from hotsite_client import NotVerified, verify

KEY = bytes(range(32))
SECRET = signing.shown(KEY)
NOW = 1_764_200_000
BODY = b'{"id": "00000000-0000-0000-0000-000000000007", "type": "webhook.test"}'


def headers(*keys: bytes, at: int = NOW) -> dict[str, str]:
    return dict(signing.headers(keys or (KEY,), UUID(int=7), at, BODY))


def test_what_hotsite_signed_is_the_event() -> None:
    assert verify(BODY, headers(), SECRET, now=NOW)["type"] == "webhook.test"


def test_names_of_headers_are_taken_in_any_case() -> None:
    shouted = {name.title(): value for name, value in headers().items()}
    assert verify(BODY, shouted, SECRET, now=NOW + 299)["type"] == "webhook.test"


def test_one_signature_that_fits_will_do_while_secrets_change() -> None:
    assert verify(BODY, headers(b"the new one", KEY), SECRET, now=NOW)
    assert verify(BODY, headers(b"the new one", KEY), signing.shown(b"the new one"), now=NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "another"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "²"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,???"},
        {"webhook-signature": "v2,AAAA"},
    ],
)
def test_a_post_with_another_header_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(NotVerified):
        verify(BODY, headers() | changed, SECRET, now=NOW)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_post_without_one_of_its_headers_is_refused(missing: str) -> None:
    given = headers()
    del given[missing]
    with pytest.raises(NotVerified, match=missing):
        verify(BODY, given, SECRET, now=NOW)


def test_another_body_and_another_secret_are_refused() -> None:
    with pytest.raises(NotVerified):
        verify(BODY + b" ", headers(), SECRET, now=NOW)
    with pytest.raises(NotVerified):
        verify(BODY, headers(), signing.shown(b"x" * 32), now=NOW)


@pytest.mark.parametrize("now", [NOW + 301, NOW - 301])
def test_a_post_that_somebody_kept_is_refused(now: int) -> None:
    with pytest.raises(NotVerified):
        verify(BODY, headers(), SECRET, now=now)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%"])
def test_a_secret_that_is_none_is_no_reason_to_refuse_the_post(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        verify(BODY, headers(), secret, now=NOW)
