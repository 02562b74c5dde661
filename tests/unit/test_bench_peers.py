"""The comparison with other gateways: what they are told, what is read of their answers, and the table."""

import asyncio
import configparser
import contextlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from bench.load import HEADER_END, Tally, answer_size
from bench.peers import compare, gateway, jasmin, kannel
from bench.peers.compare import Comparison
from bench.peers.gateway import Figures, NotInstalledError, memory
from bench.peers.programs import program, running
from bench.peers.table import BEGIN, END, between_markers, section

FIGURES = Figures(
    name="Kannel, spool", accepted_means="in a file", accepted_rate=1234.5, sent_rate=1200.4, p50_ms=6.04, p99_ms=33.3,
    cpu_ms=0.333, memory_mb=14.2, backlog=1496, unsent=0, refused=2,
)  # fmt: skip
COMPARISON = Comparison(figures=[FIGURES], seconds=20, machine="2 cores", load=0.5)


# -- what the load generator reads


def size(answer: bytes) -> int | None:
    return answer_size(answer, answer.find(HEADER_END))


def test_an_answer_with_a_length_is_as_long_as_it_says():
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nokay"
    assert size(answer + b"HTTP/1.1") == len(answer)
    assert size(answer[:-2]) == len(answer)


def test_an_answer_in_chunks_is_over_with_its_last_chunk():
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nokay\r\n0\r\n\r\n"
    assert size(answer) == len(answer)
    assert size(answer[:-5]) is None


def test_an_answer_that_does_not_tell_its_end_is_refused():
    with pytest.raises(ValueError, match="neither"):
        size(b"HTTP/1.0 200 OK\r\n\r\nokay")


def test_accepted_is_what_the_gateway_calls_so():
    tally = Tally(yes=200)
    tally.statuses.update({200: 3, 202: 5})
    assert tally.accepted == 3


# -- Kannel


def groups(text: str) -> list[dict[str, str]]:
    return [dict(line.split(" = ", 1) for line in group.splitlines()) for group in text.strip().split("\n\n")]


def test_kannel_binds_to_the_carrier_with_a_window_and_listens_on_loopback_only(tmp_path: Path):
    core, smsc, smsbox, user = groups(kannel.configuration(kannel.Ports.of(20_100), tmp_path, spool=False))
    assert [g["group"] for g in (core, smsc, smsbox, user)] == ["core", "smsc", "smsbox", '"sendsms-user"']
    assert smsc["port"] == "20100"
    assert smsc["max-pending-submits"] == "50"
    assert "throughput" not in smsc
    assert core["smsbox-port"] == "20102"
    assert smsbox["sendsms-port"] == "20103"
    assert core["admin-interface"] == core["smsbox-interface"] == smsbox["sendsms-interface"] == '"127.0.0.1"'


@pytest.mark.parametrize("spool", [False, True])
def test_kannel_has_a_store_only_when_it_is_asked_for(tmp_path: Path, *, spool: bool):
    core = groups(kannel.configuration(kannel.Ports.of(20_100), tmp_path, spool=spool))[0]
    assert core.get("store-type") == ("spool" if spool else None)
    assert core.get("store-location") == (f'"{tmp_path / "spool"}"' if spool else None)


@pytest.mark.parametrize(
    ("octets", "text", "receipts"),
    [(kannel.request("h:1", 0), "text", "dlr-mask"), (jasmin.request("h:1", 0), "content", "dlr")],
)
def test_a_request_carries_the_whole_text_and_a_number_with_its_plus(octets: bytes, text: str, receipts: str):
    line, host = octets.decode().splitlines()[:2]
    asked = parse_qs(urlsplit(line.split()[1]).query)
    assert host == "Host: h:1"
    assert asked[text][0].startswith("Power is out")
    assert asked["to"][0].startswith("+1")
    assert asked[receipts][0] in {"3", "no"}


# -- Jasmin


def test_jasmin_has_each_port_once_and_everything_on_loopback():
    ports = jasmin.Ports.of(20_100)
    parser = configparser.RawConfigParser()
    parser.read_string(jasmin.configuration(ports, Path("spec.xml")))
    own = [parser[s]["port"] for s in parser.sections() if "port" in parser[s]]
    assert len(own) == len(set(own)) == 8
    hosts = {parser[s].get("bind") or parser[s].get("host") for s in parser.sections() if "port" in parser[s]}
    assert hosts == {"127.0.0.1"}
    assert parser["amqp-broker"]["spec"] == "spec.xml"


def test_jasmins_console_is_told_of_a_carrier_without_a_limit_and_to_start_it():
    lines = jasmin.console_lines(jasmin.Ports.of(20_100))
    assert "port 20100" in lines
    assert "submit_throughput 0" in lines  # it takes one a second unless it is told so
    assert lines.count("ok") == 4
    assert lines[-1] == "smppccm -1 carrier"


@pytest.mark.parametrize(
    ("line", "said", "is_refused"),
    [
        ("cid carrier", "cid carrier\r\n> ", False),
        ("ok", "ok\r\nSuccessfully added connector [carrier]\r\njcli : ", False),
        ("ok", "ok\r\nYou must set at least connector id (cid) before saving !\r\n> ", True),
        ("smppccm -1 carrier", "Unknown connector: carrier\r\njcli : ", True),
    ],
)
def test_what_the_console_does_not_call_a_success_is_refused(line: str, said: str, *, is_refused: bool):
    assert jasmin.refused(line, said) is is_refused


def test_rabbitmq_neither_reads_nor_writes_the_systems_files(tmp_path: Path):
    env = jasmin.rabbit_environment(jasmin.Ports.of(20_100), tmp_path)
    paths = [value for value in env.values() if value.startswith("/")]
    assert len(paths) == 6
    assert all(Path(path).is_relative_to(tmp_path) for path in paths)


# -- programs


def test_a_program_that_is_missing_is_told_with_its_package():
    with pytest.raises(NotInstalledError, match="no no-such-program: apt install kannel"):
        program("no-such-program", "kannel")


def test_a_program_that_ran_is_gone_after_its_block_and_its_memory_is_counted_meanwhile(tmp_path: Path):
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with running(argv, tmp_path, name="sleeper") as pid:
        assert memory({pid: "sleeper"}) > 0
        assert memory({pid: "sleeper", 0x7FFFFFFF: "gone"}) > 0
    assert memory({pid: "sleeper"}) == 0


# -- the measurement


async def test_what_a_gateway_accepts_and_does_not_send_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("WARM_UP_S", "IDLE_S", "SETTLE_S", "DRAIN_WITHIN_S"):
        monkeypatch.setattr(gateway, name, 0.05)
    log = tmp_path / "carrier.jsonl"
    log.touch()
    numbers: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes every text, and sends every other one."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                numbers.append(int((await reader.readuntil(HEADER_END)).split()[1][1:]))
                if numbers[-1] % 2:
                    with log.open("ab") as lines:
                        lines.write(orjson.dumps({"t": time.time(), "status": 0}) + b"\n")
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        found = await gateway.measure(
            gateway.Gateway(
                name="half",
                accepted_means="nothing",
                doors=[server.sockets[0].getsockname()],
                request=lambda host, number: f"GET /{number} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
                kinds={os.getpid(): "this"},
                carrier_logs=[log],
            ),
            clients=2,
            seconds=0.1,
        )
    assert sorted(numbers) == list(range(len(numbers)))  # each text has a number of its own
    assert found.refused == 0
    assert 0 < found.unsent <= found.backlog
    assert found.sent_rate == pytest.approx(found.accepted_rate / 2, rel=0.3)
    assert found.memory_mb > 1


async def test_a_peer_that_is_not_installed_is_left_out_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch,
):
    async def measured(start: object, seconds: float, say: object) -> Figures:
        if start is compare.jasmin:
            raise NotInstalledError("there is no redis-server: apt install redis-server")
        return FIGURES

    said: list[str] = []
    monkeypatch.setattr(compare, "_measured", measured)
    found = await compare.compare(1, say=said.append)
    assert len(found.figures) == 3
    assert found.left_out == {"Jasmin 0.11.1": "there is no redis-server: apt install redis-server"}
    assert said == ["Jasmin 0.11.1 is left out: there is no redis-server: apt install redis-server"]


# -- the table


def test_a_row_tells_each_figure_and_what_accepted_means():
    told = section(COMPARISON)
    assert "| Kannel, spool | 1,234 | 1,200 | 6.0 | 33.3 | 0.33 | 14 | 2 | 1,496 | 0 | in a file |" in told
    assert "load average 0.5" in told


@pytest.mark.parametrize(("load", "told"), [(0.2, False), (4.0, True)])
def test_figures_of_a_busy_machine_say_so(*, load: float, told: bool):
    assert ("read the ratios" in section(replace(COMPARISON, load=load))) is told


def test_a_cost_is_a_lower_bound_while_texts_are_left_over():
    assert "| ≥ 0.33 |" in section(replace(COMPARISON, figures=[replace(FIGURES, unsent=7)]))


def test_a_peer_that_was_left_out_is_named_with_the_reason():
    told = section(replace(COMPARISON, left_out={"Jasmin": "there is no redis-server"}))
    assert "Jasmin is left out: there is no redis-server." in told


def test_every_row_has_as_many_cells_as_the_heading():
    heading, ruler, row = section(COMPARISON).splitlines()[:3]
    assert heading.count("|") == ruler.count("|") == row.count("|")


def test_only_what_is_between_the_markers_changes():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert between_markers(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert between_markers(between_markers(page, "new"), "old") == page


@pytest.mark.parametrize("page", ["nothing", BEGIN, f"{END}\n{BEGIN}"])
def test_a_page_without_both_markers_is_refused(page: str):
    with pytest.raises(ValueError, match="no lines"):
        between_markers(page, "new")


def test_our_page_has_the_markers():
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert "new" in between_markers(page, "new")
