"""The calls on webhooks and on the feed of events: a part of the table in `routes`."""

from typing import Final

from dispatcher.http import problem, schemas_webhooks
from dispatcher.http.calls import OF_A_BODY, OF_A_KEY, Call

OF_A_WEBHOOK: Final = (*OF_A_KEY, problem.NOT_FOUND)
ONE: Final = "/v1/webhooks/{id}"

WEBHOOK_CALLS: Final = (
    Call(
        name="list_events",
        method="GET",
        path="/v1/events",
        summary="List what has happened since",
        description="What became of texts, and customers' replies, in the order in which it was committed: a cursor "
        "skips nothing, also when production has moved to the other site. Events are kept from the account's first "
        "look, or its first webhook, on, and for ten days.",
        query=schemas_webhooks.EventsQuery,
        answers={200: schemas_webhooks.EventsAnswer},
        problems=(*OF_A_KEY, problem.INVALID, problem.TOO_OLD),
    ),
    Call(
        name="create_webhook",
        method="POST",
        path="/v1/webhooks",
        summary="Have events posted to an address",
        description="The answer has the secret, this once. Posts are signed as Standard Webhooks has it.",
        request=schemas_webhooks.WebhookRequest,
        answers={201: schemas_webhooks.WebhookSecretAnswer},
        problems=(*OF_A_KEY, *OF_A_BODY, problem.WEBHOOK_NOT_NOW),
    ),
    Call(
        name="list_webhooks",
        method="GET",
        path="/v1/webhooks",
        summary="List webhooks",
        answers={200: schemas_webhooks.WebhooksAnswer},
        problems=OF_A_KEY,
    ),
    Call(
        name="read_webhook",
        method="GET",
        path=ONE,
        summary="Look at a webhook",
        answers={200: schemas_webhooks.WebhookAnswer},
        problems=OF_A_WEBHOOK,
    ),
    Call(
        name="change_webhook",
        method="PATCH",
        path=ONE,
        summary="Change a webhook, or switch it off or on",
        request=schemas_webhooks.WebhookChangeRequest,
        answers={200: schemas_webhooks.WebhookAnswer},
        problems=(*OF_A_WEBHOOK, *OF_A_BODY),
    ),
    Call(
        name="delete_webhook",
        method="DELETE",
        path=ONE,
        summary="Delete a webhook",
        description="Its dead letters go with it.",
        answers={204: None},
        problems=OF_A_WEBHOOK,
    ),
    Call(
        name="rotate_webhook",
        method="POST",
        path=f"{ONE}/rotate",
        summary="Change the secret",
        description="The answer has the new one, this once. For a while both sign.",
        request=schemas_webhooks.RotateRequest,
        answers={200: schemas_webhooks.WebhookSecretAnswer},
        problems=(*OF_A_WEBHOOK, *OF_A_BODY),
    ),
    Call(
        name="test_webhook",
        method="POST",
        path=f"{ONE}/test",
        summary="Have a test posted",
        description="An event of type `webhook.test` goes out at once, whatever kinds the webhook takes.",
        answers={202: schemas_webhooks.WebhookTestAnswer},
        problems=(*OF_A_WEBHOOK, problem.WEBHOOK_NOT_NOW),
    ),
    Call(
        name="list_deliveries",
        method="GET",
        path=f"{ONE}/deliveries",
        summary="See the last posts, and what came of them",
        query=schemas_webhooks.DeliveriesQuery,
        answers={200: schemas_webhooks.DeliveriesAnswer},
        problems=(*OF_A_WEBHOOK, problem.INVALID),
    ),
    Call(
        name="list_dead_letters",
        method="GET",
        path=f"{ONE}/dead-letters",
        summary="List what was never taken",
        query=schemas_webhooks.DeadLettersQuery,
        answers={200: schemas_webhooks.DeadLettersAnswer},
        problems=(*OF_A_WEBHOOK, problem.INVALID),
    ),
    Call(
        name="replay_dead_letters",
        method="POST",
        path=f"{ONE}/dead-letters/replay",
        summary="Have dead letters posted again",
        description="One, or all. Each is tried for 72 hours more, after what was posted since.",
        request=schemas_webhooks.ReplayRequest,
        answers={200: schemas_webhooks.ReplayedAnswer},
        problems=(*OF_A_WEBHOOK, *OF_A_BODY),
    ),
)
