"""Texts through Hotsite: both sites' addresses, one key, and no text is ever sent twice.

    with Client(["https://columbus.example", "https://denver.example"], key) as client:
        accepted = client.send(Message(program="outages", to="+16145550123", body="Power is back."))

`AsyncClient` is the same with `await`. What can go wrong is in `errors`, how long is tried in `Policy`. `verify` is for
those who receive webhooks.
"""

from hotsite_client.client import AsyncClient, Client
from hotsite_client.errors import (
    AlreadyLeft,
    ApiError,
    BulkStopped,
    HotsiteError,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    ReferenceConflict,
    Unauthorized,
    Unreachable,
)
from hotsite_client.model import (
    Accepted,
    Event,
    FieldProblem,
    Message,
    Page,
    Part,
    Preview,
    Problem,
    Result,
    SentMessage,
)
from hotsite_client.retry import Policy
from hotsite_client.webhooks import NotVerified, verify

__all__ = [
    "Accepted",
    "AlreadyLeft",
    "ApiError",
    "AsyncClient",
    "BulkStopped",
    "Client",
    "Event",
    "FieldProblem",
    "HotsiteError",
    "InvalidRequest",
    "Message",
    "NotFound",
    "NotVerified",
    "OutcomeUnknown",
    "Page",
    "Part",
    "Policy",
    "Preview",
    "Problem",
    "ReferenceConflict",
    "Result",
    "SentMessage",
    "Unauthorized",
    "Unreachable",
    "verify",
]
