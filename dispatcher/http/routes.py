"""The calls of the API, in one table: the router is filled from it and `/v1/openapi.json` is made from it."""

from typing import Final

from dispatcher.http import problem, schemas, schemas_campaigns
from dispatcher.http.calls import OF_A_BODY, OF_A_KEY, OF_ANY_CALL, Call
from dispatcher.http.routes_campaigns import CAMPAIGN_CALLS
from dispatcher.http.routes_webhooks import WEBHOOK_CALLS

__all__ = ["CALLS", "OF_ANY_CALL", "VERSION", "Call"]

VERSION: Final = "1.0"  # of the API: the first number is the one in its paths

CALLS: Final = (
    Call(
        name="send",
        method="POST",
        path="/v1/messages",
        summary="Send a text",
        description="202 means that the message is on disk, where `durability` says, and will be accounted for "
        "whatever fails. Give a `reference`: a request that was not answered is then safe to repeat, at either "
        "site. 200 with `duplicate` is the answer to such a repeat. While production moves between the sites, "
        "the request is held and answered afterwards.",
        request=schemas.MessageRequest,
        request_or=schemas_campaigns.TemplatedMessageRequest,
        answers={202: schemas.AcceptedAnswer, 200: schemas.AcceptedAnswer},
        problems=(*OF_A_KEY, *OF_A_BODY, problem.CONFLICT, problem.ONE_SITE),
    ),
    Call(
        name="bulk",
        method="POST",
        path="/v1/messages/bulk",
        summary="Send many texts",
        description="One JSON object a line in; one result line out for each, in order, with its line number. "
        "A line that is refused does not stop the others. There is no limit on lines, nor on the time they take, "
        "as long as one ends every 30 seconds: send and read at the same time, for reading stops while too many "
        "results wait for you, and a connection whose results are not taken for 30 seconds is closed. An account "
        "may have 8 such requests at once at each address.",
        request=schemas.MessageRequest,
        request_or=schemas_campaigns.TemplatedMessageRequest,
        request_type="application/x-ndjson",
        answers={200: schemas.LineAnswer},
        answer_type="application/x-ndjson",
        problems=(*OF_A_KEY, problem.MALFORMED, problem.MEDIA_TYPE, problem.TOO_MANY_STREAMS),
    ),
    Call(
        name="list",
        method="GET",
        path="/v1/messages",
        summary="List messages",
        description="Newest first. The last page is the one without a `next_cursor`, not the first short one.",
        query=schemas.ListQuery,
        answers={200: schemas.PageAnswer},
        problems=(*OF_A_KEY, problem.INVALID),
    ),
    Call(
        name="read",
        method="GET",
        path="/v1/messages/{id}",
        summary="Look at a message",
        answers={200: schemas.MessageAnswer},
        problems=(*OF_A_KEY, problem.NOT_FOUND),
    ),
    Call(
        name="cancel",
        method="DELETE",
        path="/v1/messages/{id}",
        summary="Cancel what has not left",
        description="Segments that were handed to a carrier cannot be called back.",
        answers={200: schemas.MessageAnswer},
        problems=(*OF_A_KEY, problem.NOT_FOUND, problem.LEFT),
    ),
    Call(
        name="doubts",
        method="GET",
        path="/v1/doubts",
        summary="List what came into doubt",
        description="When a link or a site is lost between a text and the carrier's answer, nobody knows whether the "
        "text left. It is never sent again in silence: here is each one, by the term in which it was claimed (each "
        "answer to a text that was sent tells the term), with what has become of it since.",
        query=schemas.DoubtsQuery,
        answers={200: schemas.DoubtsAnswer},
        problems=(*OF_A_KEY, problem.INVALID),
    ),
    Call(
        name="preview",
        method="POST",
        path="/v1/preview",
        summary="See how a text would be sent, and what it would cost",
        description="Nothing is stored and nothing is sent.",
        request=schemas.PreviewRequest,
        answers={200: schemas.PreviewAnswer},
        problems=(*OF_A_KEY, *OF_A_BODY),
    ),
    *CAMPAIGN_CALLS,
    *WEBHOOK_CALLS,
    Call(
        name="openapi",
        method="GET",
        path="/v1/openapi.json",
        summary="This description",
        answers={200: None},
        public=True,
    ),
    Call(
        name="docs",
        method="GET",
        path="/docs",
        summary="This description, for people",
        answers={200: None},
        answer_type="text/html",
        public=True,
    ),
)
