"""The calls on templates and campaigns: a part of the table in `routes`."""

from typing import Final

from dispatcher.http import problem, schemas, schemas_campaigns
from dispatcher.http.calls import OF_A_BODY, OF_A_KEY, Call

OF_A_CAMPAIGN: Final = (*OF_A_KEY, problem.NOT_FOUND)
ONE: Final = "/v1/campaigns/{id}"

CAMPAIGN_CALLS: Final = (
    Call(
        name="list_templates",
        method="GET",
        path="/v1/templates",
        summary="List templates",
        description="In the order of their names.",
        query=schemas_campaigns.TemplatesQuery,
        answers={200: schemas_campaigns.TemplatesAnswer},
        problems=(*OF_A_KEY, problem.INVALID),
    ),
    Call(
        name="preview_template",
        method="POST",
        path="/v1/templates/preview",
        summary="See what values make of a template",
        description="Nothing is stored and nothing is sent. `at_most` tells what the longest values would make.",
        request=schemas_campaigns.TemplatePreviewRequest,
        answers={200: schemas_campaigns.TextPreviewAnswer},
        problems=(*OF_A_KEY, *OF_A_BODY),
    ),
    Call(
        name="save_template",
        method="PUT",
        path="/v1/templates/{name}",
        summary="Store a template, or change it",
        description="Campaigns that were made from it keep their text.",
        request=schemas_campaigns.TemplateRequest,
        answers={200: schemas_campaigns.TemplateAnswer},
        problems=(*OF_A_KEY, *OF_A_BODY),
    ),
    Call(
        name="read_template",
        method="GET",
        path="/v1/templates/{name}",
        summary="Look at a template",
        answers={200: schemas_campaigns.TemplateAnswer},
        problems=OF_A_CAMPAIGN,
    ),
    Call(
        name="delete_template",
        method="DELETE",
        path="/v1/templates/{name}",
        summary="Delete a template",
        description="Campaigns that were made from it keep their text.",
        answers={204: None},
        problems=OF_A_CAMPAIGN,
    ),
    Call(
        name="create_campaign",
        method="POST",
        path="/v1/campaigns",
        summary="Make a campaign",
        description="A draft: give it its list, look at a preview, send yourself a test, then start it.",
        request=schemas_campaigns.CampaignRequest,
        answers={201: schemas_campaigns.CampaignAnswer},
        problems=(*OF_A_KEY, *OF_A_BODY),
    ),
    Call(
        name="list_campaigns",
        method="GET",
        path="/v1/campaigns",
        summary="List campaigns",
        description="Newest first.",
        query=schemas_campaigns.CampaignsQuery,
        answers={200: schemas_campaigns.CampaignsAnswer},
        problems=(*OF_A_KEY, problem.INVALID),
    ),
    Call(
        name="read_campaign",
        method="GET",
        path=ONE,
        summary="Look at a campaign",
        answers={200: schemas_campaigns.CampaignAnswer},
        problems=OF_A_CAMPAIGN,
    ),
    Call(
        name="upload_list",
        method="PUT",
        path=f"{ONE}/list",
        summary="Give a campaign its list",
        description="CSV, as a stream, up to a million rows. The first line names the columns: `to`, and one for each "
        "variable, in any order. UTF-8, or UTF-16 with a byte order mark; Windows-1252 with "
        "`Content-Type: text/csv; charset=windows-1252`. A bad row is told with its line, column and reason, and the "
        "others go on. A list that broke off counts for nothing: send it again, whole. A new list takes the place of "
        "the one before.",
        query=schemas_campaigns.ListUploadQuery,
        request_type="text/csv",
        answers={200: schemas_campaigns.ListAnswer},
        problems=(
            *OF_A_CAMPAIGN,
            problem.INVALID,
            problem.TIMEOUT,
            problem.TOO_LARGE,
            problem.MEDIA_TYPE,
            problem.TOO_MANY_STREAMS,
            problem.NOT_NOW,
        ),
    ),
    Call(
        name="preview_campaign",
        method="POST",
        path=f"{ONE}/preview",
        summary="See a text of a campaign",
        request=schemas_campaigns.VarsRequest,
        answers={200: schemas_campaigns.TextPreviewAnswer},
        problems=(*OF_A_CAMPAIGN, *OF_A_BODY),
    ),
    Call(
        name="test_campaign",
        method="POST",
        path=f"{ONE}/test",
        summary="Send one text of a campaign to yourself",
        description="A message like any other, at any time; it belongs to no list and no report.",
        request=schemas_campaigns.TestRequest,
        answers={202: schemas.AcceptedAnswer},
        problems=(*OF_A_CAMPAIGN, *OF_A_BODY, problem.ONE_SITE),
    ),
    *(
        Call(
            name=f"{act}_campaign",
            method="POST",
            path=f"{ONE}/{act}",
            summary=summary,
            description=description,
            answers={200: schemas_campaigns.CampaignAnswer},
            problems=(*OF_A_CAMPAIGN, problem.NOT_NOW),
        )
        for act, summary, description in (
            ("start", "Start a campaign", "Its list must have come whole. Safe to repeat."),
            (
                "pause",
                "Pause a campaign",
                "No more texts go into the queue; the few that are in it, a second's worth, go on. Safe to repeat.",
            ),
            ("resume", "Resume a campaign", "Safe to repeat."),
            (
                "cancel",
                "Cancel a campaign",
                "For good: no more texts go into the queue, and what is in it is canceled. Safe to repeat.",
            ),
        )
    ),
    Call(
        name="progress_campaign",
        method="GET",
        path=f"{ONE}/progress",
        summary="See how far a campaign is",
        description="With `Accept: text/event-stream` as server-sent events, `progress` once a second, until it is "
        "done or canceled.",
        answers={200: schemas_campaigns.ProgressAnswer},
        problems=OF_A_CAMPAIGN,
    ),
    Call(
        name="report_campaign",
        method="GET",
        path=f"{ONE}/report",
        summary="What became of a campaign",
        answers={200: schemas_campaigns.ReportAnswer},
        problems=OF_A_CAMPAIGN,
    ),
    Call(
        name="report_campaign_csv",
        method="GET",
        path=f"{ONE}/report.csv",
        summary="The same for each row of its list",
        description="A line for each row, good or bad, as a stream in UTF-8 with a byte order mark.",
        answers={200: None},
        answer_type="text/csv",
        problems=OF_A_CAMPAIGN,
    ),
    Call(
        name="report_campaign_chart",
        method="GET",
        path=f"{ONE}/report.svg",
        summary="The same as a chart",
        answers={200: None},
        answer_type="image/svg+xml",
        problems=OF_A_CAMPAIGN,
    ),
)
