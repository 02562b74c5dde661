"""The lines between the places: delayed, cut, mended, one way and both."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sitecontrol.lab import peer_owner, wan_pipe
from sitecontrol.lab.peer_owner import holds_socket, inode_in, place_of, socket_inode
from sitecontrol.lab.pidfiles import write_pid
from sitecontrol.lab.wan import Emulator
from sitecontrol.lab.wan_pipe import RESET
from sitecontrol.lab.wan_routes import Route, Shape, WanConfig
from tests.ports import free_port
from tests.waiting import eventually

QUIET = 0.15  # seconds of silence that count as "nothing comes"


@asynccontextmanager
async def echoing(wan_ms: float, tmp_path, **more) -> AsyncIterator[tuple[Emulator, Callable]]:
    """An echo server in denver behind a door that columbus uses."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    door = free_port()
    source = more.pop("source", "columbus")
    config = WanConfig(
        control=0,
        token_file=tmp_path / "token",
        wan_ms=wan_ms,
        routes=(Route(door=door, target_port=target, source=source, destination="denver", service="echo"),),
        **{"etcd_pidfiles": {}, **more},
    )
    emulator = Emulator(config)
    await emulator.start()
    writers = []

    async def call() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", door)
        writers.append(writer)
        return reader, writer

    try:
        yield emulator, call
    finally:
        for writer in writers:
            writer.close()
        await emulator.stop()
        server.close()


async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"ping") -> float:
    started = time.monotonic()
    writer.write(data)
    async with asyncio.timeout(5):
        assert await reader.readexactly(len(data)) == data
    return time.monotonic() - started


async def silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(QUIET):
            await reader.readexactly(1)
    except TimeoutError:
        return True
    return False


async def test_bytes_take_the_round_trip(tmp_path) -> None:
    async with echoing(40, tmp_path) as (_, call):
        connection = await call()
        assert await ping(*connection) >= 0.075  # setting up a connection costs another round trip
        assert 0.038 <= await ping(*connection) < 0.5


async def test_order_and_content_survive_a_large_stream(tmp_path) -> None:
    async with echoing(10, tmp_path) as (_, call):
        data = os.urandom(12_000_000)
        assert await ping(*await call(), data) > 0


async def test_a_bad_line_is_as_slow_as_told_keeps_the_order_and_is_mended(tmp_path) -> None:
    async with echoing(4, tmp_path) as (wan, call):
        connection = await call()
        await ping(*connection)
        wan.shape(Shape(delay_ms=60, jitter_ms=30, bits_per_s=4_000_000))
        assert await ping(*connection) >= 0.118
        assert await ping(*connection, os.urandom(50_000)) >= 0.118 + 0.09  # 0.1 s each way at 4 Mbit/s
        wan.heal(None)
        assert {line["delay_ms"] for line in wan.state()["lines"]} == {2.0}
        await ping(*connection)


async def test_a_line_that_breaks_connections_resets_open_ones_and_new_ones(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sitecontrol.lab.wan.RESET_WITHIN", 0.0)
    async with echoing(4, tmp_path) as (wan, call):
        open_one = await call()
        await ping(*open_one)
        wan.shape(Shape(delay_ms=2, reset_share=1.0))
        for reader, _ in (open_one, await call()):
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(reader.readexactly(1), 5)
        wan.heal(None)
        assert await ping(*await call()) > 0


async def test_the_end_of_a_stream_crosses_and_the_other_way_goes_on(tmp_path) -> None:
    async with echoing(10, tmp_path) as (_, call):
        reader, writer = await call()
        await ping(reader, writer)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"bye"


async def test_a_cut_line_is_silent_and_goes_on_when_healed(tmp_path) -> None:
    async with echoing(4, tmp_path) as (wan, call):
        reader, writer = await call()
        await ping(reader, writer)
        wan.cut("columbus", "denver", both=True)
        writer.write(b"x")
        assert await silent(reader)
        wan.heal(None)
        assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"
        await ping(reader, writer)


async def test_answers_are_held_when_only_the_way_back_is_cut(tmp_path) -> None:
    async with echoing(4, tmp_path) as (wan, call):
        reader, writer = await call()
        await ping(reader, writer)
        wan.cut("denver", "columbus", both=False)
        before = {line["source"]: line["bytes"] for line in wan.state()["lines"]}
        writer.write(b"x")
        assert await silent(reader)
        after = {line["source"]: line["bytes"] for line in wan.state()["lines"]}
        assert after["columbus"] == before["columbus"] + 1
        assert after["denver"] == before["denver"]


async def test_a_call_over_a_cut_line_gets_through_when_healed(tmp_path) -> None:
    async with echoing(4, tmp_path) as (wan, call):
        wan.cut("columbus", "denver", both=True)
        reader, writer = await call()
        writer.write(b"x")
        assert await silent(reader)
        wan.heal(frozenset({"columbus", "denver"}))
        assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"


async def test_a_connection_that_stalled_too_long_is_reset(tmp_path) -> None:
    async with echoing(4, tmp_path, reset_after=0.01) as (wan, call):
        reader, writer = await call()
        await ping(reader, writer)
        wan.cut("columbus", "denver", both=True)
        writer.write(b"x")
        assert await silent(reader)
        wan.heal(None)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), 5)


async def test_what_a_cut_line_holds_is_forgotten_when_its_sender_resets_the_connection(tmp_path) -> None:
    async with echoing(4, tmp_path) as (wan, call):
        reader, writer = await call()
        await ping(reader, writer)
        wan.cut("columbus", "denver", both=True)
        before = [line["bytes"] for line in wan.state()["lines"]]
        writer.write(b"x")
        assert await silent(reader)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
        async with asyncio.timeout(5):
            await writer.wait_closed()
        another = await call()
        wan.heal(None)
        await ping(*another, b"yy")
        assert [line["bytes"] for line in wan.state()["lines"]] == [count + 2 for count in before]


async def test_a_refused_connection_is_reset(tmp_path) -> None:
    config = WanConfig(
        control=0,
        token_file=tmp_path / "token",
        wan_ms=4,
        routes=(
            Route(door=free_port(), target_port=free_port(), source="a", destination="b", service="none"),
        ),
        etcd_pidfiles={},
    )
    emulator = Emulator(config)
    await emulator.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", config.routes[0].door)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), 5)
    writer.close()
    await emulator.stop()


async def test_the_caller_of_a_shared_door_is_found_by_its_socket(tmp_path) -> None:
    pidfile = tmp_path / "witness.json"
    write_pid(pidfile, os.getpid())
    async with echoing(4, tmp_path, source=None, etcd_pidfiles={"witness": pidfile}) as (wan, call):
        await ping(*await call())
        assert {line["source"] for line in wan.state()["lines"]} == {"witness", "denver"}


async def test_a_caller_that_nobody_owns_is_not_carried(tmp_path) -> None:
    async with echoing(4, tmp_path, source=None) as (wan, call):
        reader, _ = await call()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        assert wan.state()["lines"] == []


def test_the_inode_is_read_from_the_kernels_table() -> None:
    table = (
        b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        b"   7: 0100007F:D431 0100007F:1CE0 01 00000000:00000000 02:000000A7 00000000     0        0 48213 2 0 20 4\n"
        b"   8: 0100007F:1CE0 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 48214 1 0 20 4\n"
    )
    assert inode_in(table, local_port=0xD431, remote_port=0x1CE0) == 48213
    assert inode_in(table, local_port=0xD432, remote_port=0x1CE0) is None


@pytest.mark.parametrize("family", [4, 31], ids=["asked", "not to be asked"])
def test_the_kernel_tells_the_inode_of_one_socket(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_owner, "_NETLINK_SOCK_DIAG", family)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near, server.accept()[0] as far:
            caller = near.getsockname()[1]
            ours, theirs = (os.fstat(one.fileno()).st_ino for one in (near, far))
            assert socket_inode(local_port=caller, remote_port=port) == ours
            assert socket_inode(local_port=port, remote_port=caller) == theirs
        assert socket_inode(local_port=caller, remote_port=1) is None


async def test_a_server_that_never_ends_a_call_does_not_keep_it_here(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wan_pipe, "HALF_CLOSED", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # it accepts nobody
        config = WanConfig(
            control=0,
            token_file=tmp_path / "token",
            wan_ms=4,
            routes=(
                Route(
                    door=free_port(),
                    target_port=deaf.getsockname()[1],
                    source="columbus",
                    destination="denver",
                    service="etcd",
                ),
            ),
            etcd_pidfiles={},
        )
        emulator = Emulator(config)
        await emulator.start()
        _, writer = await asyncio.open_connection("127.0.0.1", config.routes[0].door)
        await eventually(lambda: emulator.state()["connections"] == 1)
        writer.close()
        await eventually(lambda: emulator.state()["connections"] == 0)
        assert all(line["connections"] == 0 for line in emulator.state()["lines"])
        await emulator.stop()


def test_a_process_that_has_gone_holds_nothing() -> None:
    assert not holds_socket(2**22 + 1, 1)
    assert place_of({}, local_port=1, remote_port=2) is None
