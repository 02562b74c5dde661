"""Logging: the shape of a line, and what must not stand in one."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sitecontrol.logging import BLOT, blot_secrets, configure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(why: str) -> None:
    """Log an exception, as an except clause does."""
    structlog.get_logger().error("failed", exc_info=ValueError(why))


def test_away_from_a_terminal_each_event_is_one_line_of_json() -> None:
    stream = io.StringIO()
    configure("agent columbus-a", stream=stream)
    structlog.get_logger().info("leader_elected", site="denver", term=4)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "leader_elected",
        "site": "denver",
        "term": 4,
        "level": "info",
        "process": "agent columbus-a",
    }


def test_on_a_terminal_events_are_for_people() -> None:
    stream = Terminal()
    configure("agent columbus-a", stream=stream)
    structlog.get_logger().info("leader_elected", site="denver")
    assert "leader_elected" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_events_below_the_level_are_dropped() -> None:
    stream = io.StringIO()
    configure("agent", stream=stream, level=logging.WARNING)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_an_exception_stays_within_its_line() -> None:
    stream = io.StringIO()
    configure("agent", stream=stream)
    fail("of no use")
    (line,) = lines(stream)
    assert "ValueError: of no use" in line["exception"]


def test_a_librarys_warning_takes_the_same_way() -> None:
    stream = io.StringIO()
    configure("agent", stream=stream)
    logging.getLogger("asyncio").warning("slow by %s s", 3)
    logging.getLogger("asyncio").info("of no interest")
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["process"]) == ("slow by 3 s", "asyncio", "agent")


def test_what_json_cannot_hold_is_written_as_text() -> None:
    stream = io.StringIO()
    configure("agent", stream=stream)
    structlog.get_logger().info("read", value=b"bytes")
    assert "bytes" in lines(stream)[0]["value"]


def test_configuring_twice_writes_each_event_once() -> None:
    stream = io.StringIO()
    configure("agent", stream=io.StringIO())
    configure("agent", stream=stream)
    structlog.get_logger().info("once")
    logging.getLogger("x").warning("once")
    assert len(lines(stream)) == 2


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "Password",
        "PGPASSWORD",
        "operator_token",
        "client_secret",
        "Authorization",
        "api_key",
        "apikey",
    ],
)
def test_the_value_of_a_key_that_names_a_secret_is_blotted_out(key: str) -> None:
    assert blot_secrets(None, "info", {"event": "x", key: "hunter2"}) == {"event": "x", key: BLOT}


def test_secrets_are_blotted_out_at_any_depth() -> None:
    event = {"event": "x", "request": {"headers": [{"authorization": "Bearer abc"}], "path": "/v1"}}
    assert blot_secrets(None, "info", event) == {
        "event": "x",
        "request": {"headers": [{"authorization": BLOT}], "path": "/v1"},
    }


def test_a_bearers_token_inside_a_text_is_blotted_out() -> None:
    event = {"event": "refused", "said": 'header "Authorization: Bearer abc.def-ghi" is wrong'}
    assert blot_secrets(None, "info", event)["said"] == f'header "Authorization: Bearer {BLOT}" is wrong'


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_a_secret_in_an_exception_is_blotted_out(stream: io.StringIO) -> None:
    configure("agent", stream=stream)
    fail("got Bearer abc.def")
    assert "got Bearer [redacted]" in stream.getvalue()
    assert "abc.def" not in stream.getvalue()


def test_ordinary_keys_are_left_alone() -> None:
    event = {"event": "x", "key": "/hotsite/leader", "site": "denver", "count": 3, "ok": True}
    assert blot_secrets(None, "info", dict(event)) == event
