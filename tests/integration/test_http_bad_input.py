"""Whatever is sent, the answer is clear (problem+json with the field), and the others go on."""

import asyncio
import io
import json
from contextlib import asynccontextmanager

import jsonschema
import pytest

from dispatcher.http import body, bulk, server
from dispatcher.http.schemas import ProblemAnswer
from tests.api_server import KEY, NUMBER, Api, serving, settings, text
from tests.waiting import eventually


@pytest.fixture
async def api():
    async with serving() as served:
        yield served


async def refused(api: Api, data: bytes, *, status: int, slug: str) -> dict[str, object]:
    """Send a body; check the form of the problem; return it."""
    headers = {"Content-Type": "application/json"}
    async with api.client.post("/v1/messages", data=data, headers=headers) as answer:
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
        assert (answer.status, problem["type"]) == (status, f"/docs#{slug}"), problem
        assert problem["status"] == status
        assert problem["instance"] == f"urn:uuid:{answer.headers['X-Request-Id']}"
        jsonschema.validate(problem, ProblemAnswer.model_json_schema())
        return problem


async def refused_field(api: Api, field: str, **changed: object) -> str:
    problem = await refused(api, json.dumps(text(**changed)).encode(), status=422, slug="invalid-request")
    [error] = problem["errors"]
    assert error["field"] == field
    return error["message"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"program": }', b"\xff\xfe\x00", b'{"body": "\\ud800"}', b'{"body": "\\udc00\\ud800"}', b"[" * 5_000,
     b'{"body": "\xed\xa0\x80"}', b'{"body": "\xc0\x80"}', b'{"body": "a\0b"}', b"\xef\xbb\xbf{}", b"{}{}", b"{} x",
     b'{"a": ' * 2_000 + b"1" + b"}" * 2_000, b'{"to": ' + b"9" * 5_000 + b"}", json.dumps(text()).encode("utf-16")],
)  # fmt: skip
async def test_malformed_json_is_answered_with_the_place_where_reading_failed(api, data):
    problem = await refused(api, data, status=400, slug="malformed-json")
    assert "line 1 column" in problem["detail"]


@pytest.mark.parametrize("data", [b"[]", b'"text"', b"7", b"null"])
async def test_json_that_is_no_object_is_refused(api, data):
    problem = await refused(api, data, status=422, slug="invalid-request")
    assert problem["errors"][0]["message"] == "must be a JSON object"


async def test_every_wrong_field_is_named_at_once(api):
    data = {"program": 1, "to": None, "refrence": "x", "class": "urgent", "send_at": "tomorrow"}
    problem = await refused(api, json.dumps(data).encode(), status=422, slug="invalid-request")
    assert {error["field"] for error in problem["errors"]} == {
        "program", "to", "body", "refrence", "class", "send_at",
    }  # fmt: skip


@pytest.mark.parametrize("value", [7, True, ["a"], {"a": 1}, None])
async def test_a_value_of_the_wrong_type_is_refused_and_not_bent(api, value):
    assert await refused_field(api, "body", body=value) == "must be a string"


async def test_a_field_that_is_given_twice_is_refused_by_name(api):
    """JSON does not say which of the two counts, and a text must not go to the wrong one."""
    once = json.dumps(text()).encode()
    for again in (b'"to"', b'"to" ', b'"to"\n\t', b'"\\u0074o"', b'"t\\u006F"'):
        data = once.replace(b"{", b"{" + again + b': "+16145550199", ')
        problem = await refused(api, data, status=422, slug="invalid-request")
        assert problem["errors"] == [{"field": "to", "message": "is given twice"}]


@pytest.mark.parametrize("body", ['"to": "to":', "\\u0074 \u2019", "to", '{"to": 1, "to": 2}'])
async def test_a_text_that_looks_like_a_field_is_none(api, body):
    for ascii_only in (True, False):
        data = json.dumps(text(body=body, reference="to"), ensure_ascii=ascii_only).encode()
        async with api.client.post(
            "/v1/messages", data=data, headers={"Content-Type": "application/json"}
        ) as answer:
            assert answer.status in {200, 202}


async def test_of_thousands_of_wrong_fields_only_some_are_told_and_the_others_counted(api):
    data = json.dumps({f"field{n}": n for n in range(3_000)}).encode()
    problem = await refused(api, data, status=422, slug="invalid-request")
    assert len(problem["errors"]) == 50
    assert "(and 3002 more" in problem["detail"]


@pytest.mark.parametrize(
    ("value", "message"),
    [(10**50, "must be a string"), (-(10**18), "must be a string"), (1e300, "must be a string"),
     ([[[[[[1]]]]]] * 100, "must be a string"), (float("nan"), "must be a string")],
)  # fmt: skip
async def test_a_number_or_a_nest_where_text_is_asked_for_is_shown_shortened(api, value, message):
    assert await refused_field(api, "body", body=value) == message


@pytest.mark.parametrize(
    ("field", "meant"),
    [("refrence", "reference"), ("To", "to"), ("text", "body"), ("Body", "body"), ("phone", "to"),
     ("priority", "class"), ("ttl", "expires_at"), ("idempotency_key", "reference")],
)  # fmt: skip
async def test_an_unknown_field_is_refused_with_the_one_that_is_meant(api, field, meant):
    assert f"did you mean `{meant}`?" in await refused_field(api, field, **{field: "x"})


async def test_an_unknown_field_that_is_near_to_none_is_refused_with_those_there_are(api):
    told = await refused_field(api, "metadata", metadata={})
    assert "it has program, to, body, reference, class, send_at, expires_at, on_doubt" in told


async def test_a_sender_is_refused_with_where_it_comes_from(api):
    assert "program's short code" in await refused_field(api, "from", **{"from": "12345"})


@pytest.mark.parametrize(
    ("missing", "told"),
    [("program", "is required: the name of the program that it belongs to"),
     ("to", "is required: the customer's number, in E.164 form"),
     ("body", "is required: the text: at most 10 segments")],
)  # fmt: skip
async def test_a_missing_field_is_named_with_what_belongs_there(api, missing, told):
    data = text()
    del data[missing]
    problem = await refused(api, json.dumps(data).encode(), status=422, slug="invalid-request")
    assert problem["errors"] == [{"field": missing, "message": told}]


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [("body", None, "null"), ("body", True, "true"), ("body", {"a": [1]}, '{"a": [1]}'),
     ("send_at", "2999-01-01T00:00:00Z", "2999-01-01T00:00:00+00:00"), ("to", "", "")],
)  # fmt: skip
async def test_a_refused_value_is_shown_as_its_sender_wrote_it(api, field, value, shown):
    data = json.dumps(text(**{field: value})).encode()
    problem = await refused(api, data, status=422, slug="invalid-request")
    assert problem["errors"][0]["value"] == shown


async def test_a_reference_of_another_content_is_refused_by_its_field_with_the_message_it_stands_for(api):
    async with api.client.post("/v1/messages", json=text(reference="o-1")) as answer:
        first = (await answer.json())["id"]
    data = json.dumps(text(reference="o-1", body="Other")).encode()
    problem = await refused(api, data, status=409, slug="reference-conflict")
    assert first in problem["detail"]
    [error] = problem["errors"]
    assert error["field"] == "reference"
    assert "give a new message a new reference" in error["message"]


async def test_an_empty_body_is_said_to_be_empty(api):
    problem = await refused(api, b"", status=400, slug="malformed-json")
    assert problem["detail"].startswith("the body is empty")


async def test_values_without_a_template_are_refused_with_where_they_belong(api):
    assert "come with the name of a `template`" in await refused_field(api, "vars", vars={})


@pytest.mark.parametrize(
    "number",
    ["", "12345", "+1", "6145550123x", "+0123456789", "+1614555012", "+999123456789", "+1" * 2_000, "🙂"],
)
async def test_a_number_that_is_none_is_refused(api, number):
    assert await refused_field(api, "to", to=number)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("(614) 555-0123", "+16145550123"), ("+1 614 555 0123", "+16145550123"), ("+930700000000", "+93700000000")],
)  # fmt: skip
async def test_a_number_written_another_way_is_refused_with_how_to_write_it(api, written, meant):
    assert f"did you mean {meant}?" in await refused_field(api, "to", to=written)


async def test_nothing_is_suggested_that_would_be_refused_again(api):
    assert "did you mean" not in await refused_field(api, "to", to="+4915")


async def test_a_lab_takes_numbers_that_belong_to_nobody_and_a_production_site_does_not(api):
    async with api.client.post("/v1/messages", json=text(to="+15550001234")) as answer:
        assert answer.status == 202
    async with serving(settings(environment="production")) as production:
        assert "not in use" in await refused_field(production, "to", to="+15550001234")


@pytest.mark.parametrize("empty", ["", " ", "\n\t"])
async def test_an_empty_text_is_refused(api, empty):
    assert await refused_field(api, "body", body=empty) == "must not be empty"


async def test_a_text_that_postgresql_could_not_store_is_refused_with_the_place(api):
    assert "U+0000 at index 3" in await refused_field(api, "body", body="abc\0def")


@pytest.mark.parametrize(
    "body", ["x" * 153 * 2_000, "\u0436" * 67 * 2_000, "\U0001f600" * 33 * 2_000, "{" * 76 * 2_000]
)
async def test_a_text_of_two_thousand_segments_is_refused_with_its_size(api, body):
    told = await refused_field(api, "body", body=body)
    assert "makes 2000 segments, and at most 10 are taken" in told


async def test_a_text_too_long_even_to_be_read_is_refused_by_its_field_and_the_limit(api):
    problem = await refused(
        api, json.dumps(text(body="x" * 1_000_000)).encode(), status=413, slug="too-large"
    )
    [error] = problem["errors"]
    assert error["field"] == "body"
    assert "at most 10 segments" in error["message"]


async def test_an_unknown_program_is_refused(api):
    told = await refused_field(api, "program", program="leaks")
    assert told == "is no program of this account; what it may send under: outages"


async def test_a_program_that_is_switched_off_is_refused(api):
    told = await refused_field(api, "program", program="winter")
    assert told == "is switched off; what it may send under: outages"


@pytest.mark.parametrize("reference", ["", "x" * 101, "a\nb", "a\0b"])
async def test_a_reference_that_is_no_reference_is_refused(api, reference):
    await refused_field(api, "reference", reference=reference)


async def test_a_time_without_zone_is_refused(api):
    assert "time zone" in await refused_field(api, "send_at", send_at="2027-01-01T10:00:00")


@pytest.mark.parametrize("field", ["send_at", "expires_at"])
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_time_outside_the_calendar_is_refused(api, field, time):
    assert "years 1 to 9999" in await refused_field(api, field, **{field: time})


@pytest.mark.parametrize(
    "time",
    [
        5,
        True,
        "1800000000",
        "20270101",
        "2027-01-01",
        "1e9",
        [],
        "0000-01-01T00:00:00Z",
        "99999-01-01T00:00:00Z",
        "2026-12-31T23:59:60Z",
    ],
)
async def test_what_is_no_time_is_refused_with_an_example(api, time):
    assert "2026-01-31T17:00:00Z" in await refused_field(api, "send_at", send_at=time)


async def test_a_time_that_has_passed_cannot_be_the_expiry(api):
    assert "has passed" in await refused_field(api, "expires_at", expires_at="2020-01-01T10:00:00Z")


async def test_the_expiry_comes_after_the_sending(api):
    times = {"send_at": "2999-01-02T00:00:00Z", "expires_at": "2999-01-01T00:00:00Z"}
    problem = await refused(api, json.dumps(text(**times)).encode(), status=422, slug="invalid-request")
    assert [error["field"] for error in problem["errors"]] == ["send_at", "expires_at"]


async def test_a_refused_value_is_shown_shortened(api):
    problem = await refused(
        api, json.dumps(text(to="9" * 5_000)).encode(), status=422, slug="invalid-request"
    )
    assert problem["errors"][0]["value"].endswith("… (5000 characters)")
    assert len(json.dumps(problem)) < 2_000


# -- the request itself


async def test_a_body_of_100_mb_is_refused_before_it_is_read(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with closing_socket(writer):
        writer.write(request_head(length=100_000_000))
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)


async def test_a_body_of_100_mb_that_is_sent_anyway_gets_its_answer(api):
    async with api.client.post(
        "/v1/messages", data=io.BytesIO(bytes(100_000_000)), headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413
        assert (await answer.json())["type"] == "/docs#too-large"


async def test_a_chunked_body_of_100_mb_is_refused_where_the_limit_is_passed_and_takes_no_memory(api):
    taken = 0

    async def hundred_megabytes():
        nonlocal taken
        for _ in range(1_000):
            taken += 100_000
            yield bytes(100_000)

    async with api.client.post(
        "/v1/messages", data=hundred_megabytes(), headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413
        problem = await answer.json()
    assert problem["type"] == "/docs#too-large"
    assert taken < 100_000_000


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/bulk", "/v1/preview", "/nothing"])
async def test_chunks_that_are_none_are_answered_400(api, path):
    type_ = "x-ndjson" if path.endswith("bulk") else "json"
    chunked = request_head(length=0, path=path, type_=type_).replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with closing_socket(writer):
        writer.write(chunked + b"zz\r\n\r\n")
        told = await asyncio.wait_for(reader.read(100_000), 5)
    assert b" 400 " in told
    assert b"/docs#bad-request" in told


async def test_a_body_without_announced_length_is_refused_where_the_limit_is_passed(api):
    async def endless():
        for _ in range(1_000):
            yield bytes(10_000)

    async with api.client.post(
        "/v1/messages", data=endless(), headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 413


async def test_a_client_that_asks_first_is_refused_before_it_sends(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with closing_socket(writer):
        writer.write(request_head(length=100_000_000, more="Expect: 100-continue\r\n"))
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)


async def test_a_client_that_asks_first_is_told_to_go_on(api):
    data = json.dumps(text()).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with closing_socket(writer):
        writer.write(request_head(length=len(data), more="Expect: 100-continue\r\n"))
        assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write(data)
        assert b" 202 " in await asyncio.wait_for(reader.readline(), 5)


async def test_large_bodies_share_a_little_room_and_texts_that_are_taken_need_none_of_it(api, monkeypatch):
    monkeypatch.setattr(body, "LARGE_AT_ONCE", 1)
    large = json.dumps(text(body="x" * 900_000)).encode()  # more than one read of a socket brings

    async def status_of(data: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        async with api.client.post("/v1/messages", data=data, headers=headers) as answer:
            return answer.status

    async def is_refused() -> bool:
        return await status_of(large) == 503

    async def is_judged() -> bool:
        return await status_of(large) == 422

    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with closing_socket(writer):
        writer.write(request_head(length=len(large)) + large[:-1])
        await eventually(is_refused)
        assert await status_of(json.dumps(text()).encode()) == 202
    await eventually(is_judged)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/bulk", "/v1/preview"])
async def test_a_body_of_another_type_is_refused_with_the_right_one(api, path):
    async with api.client.post(path, data={"to": NUMBER}) as answer:
        assert answer.status == 415
        assert "send `Content-Type: application/" in (await answer.json())["detail"]


async def test_a_compressed_body_is_refused(api):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with api.client.post("/v1/messages", data=b"\x1f\x8b", headers=headers) as answer:
        assert answer.status == 415
        assert answer.headers["Accept-Encoding"] == "identity"


async def test_an_address_where_nothing_is_answers_404(api):
    for path in ("/nothing", "/v1/messages/not-an-id"):
        async with api.client.get(path) as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"


async def test_a_method_that_is_not_served_answers_405_with_those_that_are(api):
    async with api.client.put("/v1/messages") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, POST"
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["detail"] == "PUT is not served here; GET, POST are"
    async with api.client.put("/v1/preview") as answer:
        assert (await answer.json())["detail"] == "PUT is not served here; POST is"


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=x", "limit"), ("state=lost", "state"), ("cursor=!!", "cursor"),
     ("form=1", "form"), ("since=yesterday", "since"), ("to=1&to=2", "to"), ("limit=" + "9" * 5_000, "limit"),
     ("since=20260131", "since"), ("since=0001-01-01T00:00:00%2B14:00", "since"), ("since=2026-01-31", "since"),
     ("to=%00", "to"), ("to=%ff", "to"), ("to=6145550123", "to"), ("to=" + "9" * 5_000, "to"),
     ("reference=%00", "reference"), ("reference=", "reference"),
     ("state=%00", "state"), ("cursor=%00", "cursor"), ("cursor=AAAA", "cursor"), ("cursor=" + "A" * 41, "cursor"),
     ("%00=1", "\0")],
)  # fmt: skip
async def test_a_wrong_query_names_its_parameter(api, query, field):
    async with api.client.get(f"/v1/messages?{query}") as answer:
        assert answer.status == 422
        assert [error["field"] for error in (await answer.json())["errors"]] == [field]


# -- clients that dawdle


@asynccontextmanager
async def closing_socket(writer: asyncio.StreamWriter):
    try:
        yield
    finally:
        writer.transport.abort()


def request_head(*, length: int, more: str = "", path: str = "/v1/messages", type_: str = "json") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/{type_}\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


async def test_a_body_that_never_ends_is_answered_408(api, monkeypatch):
    monkeypatch.setattr(body, "WITHIN_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with closing_socket(writer):
        writer.write(request_head(length=100) + b'{"program"')
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 5)


async def test_headers_that_never_end_close_the_connection(monkeypatch):
    monkeypatch.setattr(server, "IDLE_S", 0.2)
    async with serving() as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        async with closing_socket(writer):
            writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Slow: a")
            assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_bulk_request_that_stops_sending_is_told_so_after_its_results(api, monkeypatch):
    monkeypatch.setattr(bulk, "PAUSE_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with closing_socket(writer):
        line = json.dumps(text()).encode() + b"\n"
        writer.write(request_head(length=10_000, path="/v1/messages/bulk", type_="x-ndjson") + line)
        told = await asyncio.wait_for(reader.readuntil(b'"status":408'), 5)
    assert b'"line":1,"status":202' in told


async def test_a_hundred_dawdlers_do_not_keep_others_waiting(api):
    dawdlers = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(100)]
    try:
        for number, (_, writer) in enumerate(dawdlers):
            writer.write(request_head(length=100) + b"{" if number % 2 else b"POST /v1/mess")
        async with asyncio.timeout(5), api.client.post("/v1/messages", json=text()) as answer:
            assert answer.status == 202
    finally:
        for _, writer in dawdlers:
            writer.transport.abort()


async def test_after_all_kinds_of_garbage_the_next_request_is_served(api):
    for garbage in (b"\0\0\0\x10bind", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" * 50):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        async with closing_socket(writer):
            writer.write(garbage)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
    async with api.client.post("/v1/messages", json=text()) as answer:
        assert answer.status == 202
