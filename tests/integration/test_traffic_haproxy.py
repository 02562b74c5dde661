"""The shipped HAProxy file in a real HAProxy: requests follow the live site, and none is refused meanwhile."""

import asyncio
import itertools
import subprocess
from pathlib import Path

import pytest

from sitecontrol.traffic.api import AdapterFailed, Move
from sitecontrol.traffic.haproxy import ask
from tests.haproxy import CONFIG, PROGRAM, Edge, edge, needs_haproxy
from tests.waiting import eventually

__all__ = ["edge"]  # the fixture

pytestmark = needs_haproxy

TO_COLUMBUS = Move(site="columbus", term=1)
TO_DENVER = Move(site="denver", term=2)


def test_the_shipped_file_is_valid_as_it_stands_without_a_warning() -> None:
    checked = subprocess.run(
        [str(PROGRAM), "-c", "-f", CONFIG], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stdout + checked.stderr


async def test_requests_go_to_the_dispatchers_of_the_live_site_and_to_no_other(edge: Edge) -> None:
    assert await edge.where() == {"columbus": 8}
    assert all(dispatcher.heard for dispatcher in edge.of("columbus"))


async def test_a_planned_swap_moves_requests_and_none_is_refused(edge: Edge) -> None:
    answers: list[tuple[int, str]] = []
    over = asyncio.Event()
    numbers = itertools.count()

    async def client() -> None:
        while not over.is_set():
            answers.append(await edge.send(f"swap-{next(numbers)}"))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(client())
        await eventually(lambda: len(answers) > 20)
        await edge.production.move(None)  # held, at both sites
        await eventually(lambda: _nobody_is_live(edge))
        held = [tasks.create_task(edge.send(f"held-{number}")) for number in range(8)]
        await eventually(lambda: any(d.heard for d in edge.of("denver")))  # all that work take requests
        await edge.production.move("denver")
        await eventually(lambda: edge.seen_live("denver"))
        before = len(answers)
        await eventually(lambda: len(answers) > before + 20)
        over.set()
    assert {status for status, _ in answers + [task.result() for task in held]} == {202}
    assert await edge.where() == {"denver": 8}


async def _nobody_is_live(edge: Edge) -> bool:
    return not await edge.seen_live("columbus") and not await edge.seen_live("denver")


async def test_a_dispatcher_that_is_gone_costs_no_request(edge: Edge) -> None:
    gone, left = edge.of("columbus")
    await gone.stop()
    answers = [await edge.send(f"gone-{number}") for number in range(10)]
    assert set(answers) == {(202, left.name)}


async def test_while_the_live_site_is_lost_requests_are_held_at_the_other_one(edge: Edge) -> None:
    for dispatcher in edge.of("columbus"):
        await dispatcher.stop()
    await edge.production.move(None)
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(edge.send(f"lost-{number}")) for number in range(20)]
        await eventually(lambda: sum(len(d.heard) for d in edge.of("denver")) == 20)
        await edge.production.move("denver")
    assert {task.result()[0] for task in sent} == {202}


async def test_a_request_that_was_heard_and_not_answered_is_not_given_to_another_dispatcher(
    edge: Edge,
) -> None:
    for dispatcher in edge.dispatchers.values():
        dispatcher.breaks = True
    status, _ = await edge.send("once")
    assert status == 502
    assert [d.heard.count("once") for d in edge.of("columbus")] in ([0, 1], [1, 0])
    assert not any(d.heard for d in edge.of("denver"))


async def test_when_no_dispatcher_works_a_problem_is_told_with_when_to_try_again(edge: Edge) -> None:
    for dispatcher in edge.dispatchers.values():
        await dispatcher.stop()

    async def refused() -> bool:
        async with edge.client.get(f"{edge.url}/v1/messages") as answer:
            return answer.content_type == "application/problem+json" and (
                answer.status,
                answer.headers["Retry-After"],
                (await answer.json())["status"],
            ) == (503, "2", 503)

    await eventually(refused)


# -- the adapter


async def test_the_adapter_moves_requests_ahead_of_the_next_check(edge: Edge) -> None:
    await edge.production.move("denver")
    await edge.adapter().point_to(TO_DENVER)
    assert await edge.adapter().check(TO_DENVER) is None
    assert await edge.where() == {"denver": 8}


async def test_the_checks_have_the_last_word_over_the_adapter(edge: Edge) -> None:
    await edge.adapter().point_to(TO_DENVER)  # an agent that is late: columbus is live
    await eventually(lambda: edge.seen_live("columbus"))
    assert await edge.where() == {"columbus": 8}


async def test_a_look_tells_which_dispatchers_are_taken_for_live_and_should_not_be(edge: Edge) -> None:
    told = await edge.adapter().check(TO_DENVER)
    assert told == f"{edge.socket}: takes columbus-dispatcher-1, columbus-dispatcher-2 for live"


@pytest.mark.parametrize("move", [TO_COLUMBUS, TO_DENVER])
async def test_a_backend_that_haproxy_does_not_have_is_told(edge: Edge, move: Move) -> None:
    adapter = edge.adapter(backend="texts")
    with pytest.raises(AdapterFailed, match="No such backend"):
        await adapter.point_to(move)
    assert "find backend" in str(await adapter.check(move))


async def test_an_haproxy_that_is_not_reached_keeps_no_other_from_being_told(
    edge: Edge, tmp_path: Path
) -> None:
    await edge.production.move("denver")
    nobody = str(tmp_path / "nobody.sock")
    with pytest.raises(AdapterFailed, match=f"^{nobody}: not reached"):
        await edge.adapter(sockets=[nobody, edge.socket]).point_to(TO_DENVER)
    assert await edge.adapter().check(TO_DENVER) is None


async def test_an_haproxy_that_is_silent_is_told_within_the_deadline(edge: Edge) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        mute = edge.adapter(sockets=[f"{host}:{port}"], deadline=0.2)
        with pytest.raises(AdapterFailed, match=r"no answer within 0\.2 s"):
            await mute.point_to(TO_DENVER)


async def test_the_plan_is_what_haproxy_understands(edge: Edge) -> None:
    await edge.production.move("denver")
    for line in edge.adapter().plan(TO_DENVER):
        socket, _, said = line.partition(": ")
        assert (await ask(socket, said)).strip() == ""
    assert await edge.adapter().check(TO_DENVER) is None


async def test_an_edge_is_healthy_while_a_dispatcher_of_either_site_works(edge: Edge) -> None:
    async def health() -> int:
        async with edge.client.get(f"{edge.url}/edge-health") as answer:
            return answer.status

    await edge.production.move(None)  # nobody leads: requests are held, and that is no illness of the edge
    await eventually(lambda: _nobody_is_live(edge))
    assert await health() == 200
    for dispatcher in edge.dispatchers.values():
        await dispatcher.stop()

    async def ill() -> bool:
        return await health() == 503

    await eventually(ill)
