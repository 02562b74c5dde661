"""Two nodes that are promoted one after the other from the same position: both call their timeline by one number.

What PostgreSQL does then by itself is marked [M], and is why timelines have names (docs/adr/0013).
"""

import os
import re
import signal
from contextlib import aclosing

import pytest

from replication import histories, lsn, position, timelines
from replication.configuration import Standby
from replication.errors import NeedsClone
from replication.node import Node
from replication.polling import until
from replication.processes import run, working_in
from replication.timelines import Stretch
from tests.integration.test_replication_return import SOON, execute, follow, texts
from tests.postgres import Nodes, replication_target, rewind_target

pytestmark = pytest.mark.long


async def replayed_all_of(node: Node, leader: Node) -> None:
    async with aclosing(await leader.session()) as session:
        goal = (await position.look(session, timeout=SOON)).received

    async def has_it() -> bool:
        async with aclosing(await node.session()) as session:
            return (await position.look(session, timeout=SOON)).replayed >= goal

    await until(has_it, f"{node.settings.name} lacks something", deadline=SOON)


async def promote_without_checkpoint(node: Node) -> None:
    """So that nothing comes between the end of recovery and what a test writes."""
    async with aclosing(await node.session()) as session:
        rows = await session.read(
            "select pid from pg_stat_activity where backend_type in ('checkpointer', 'background writer')",
            timeout=SOON,
        )
    for row in rows:
        os.kill(row["pid"], signal.SIGSTOP)  # ended with the node
    await node.promote()


async def promoted_from_one_position(nodes: Nodes) -> tuple[Node, Node, Node]:
    """`b`, lost soon after its promotion; `c`, promoted after it; and `d`, a standby that had followed `b`."""
    a = await nodes.primary("a")
    await execute(a, "create table t (x text)")
    b, c, d = [await nodes.standby(name, of=a) for name in ("b", "c", "d")]
    await execute(a, "insert into t values ('all')")
    for node in (b, c, d):
        await replayed_all_of(node, a)
    await a.stop()
    await promote_without_checkpoint(b)
    await execute(b, "insert into t values ('only b')")
    d.follow(Standby(upstream=replication_target(b)))
    await replayed_all_of(d, b)
    await b.kill()
    await promote_without_checkpoint(c)
    await execute(c, "insert into t values ('only c')")
    return b, c, d


def let_checkpoint(node: Node) -> None:
    for pid in working_in(node.settings.data_dir.stat()):
        os.kill(pid, signal.SIGCONT)


async def test_postgresql_by_itself_streams_into_another_timeline_of_the_same_number(nodes: Nodes) -> None:
    """[M] No error, nothing in a log: a standby that "has all" has what its leader has not, for ever."""
    _, c, d = await promoted_from_one_position(nodes)
    await execute(c, "insert into t values ('more')")
    d.follow(Standby(upstream=replication_target(c)))
    await replayed_all_of(d, c)
    assert await texts(c) == {"all", "only c", "more"}
    assert await texts(d) == {"all", "only b", "more"}


async def test_each_promotion_has_a_name_which_postgresql_hands_on_to_whoever_follows(nodes: Nodes) -> None:
    b, c, d = await promoted_from_one_position(nodes)
    of_b, of_c, of_d = [histories.own(node.settings.data_dir, 2)[-1] for node in (b, c, d)]
    assert (of_b.timeline, of_b.begin) == (of_c.timeline, of_c.begin)
    assert of_b.begun_by is not None
    assert of_b.begun_by.startswith("b, promotion ")
    assert of_c.begun_by is not None
    assert of_c.begun_by.startswith("c, promotion ")
    assert of_d == of_b
    says = await histories.ask(rewind_target(c), timeout=SOON)
    assert says.history[-1] == of_c
    assert timelines.contradicted(await d.told(), says.history) == 2
    assert timelines.fork(await b.history(), says.history) == of_b.begin


async def test_a_name_is_kept_through_later_promotions_and_a_clone(nodes: Nodes) -> None:
    _, c, d = await promoted_from_one_position(nodes)
    let_checkpoint(c)
    await d.stop()
    await d.clone_from(replication_target(c))
    await follow(d, c)
    of_c = histories.own(c.settings.data_dir, 2)[-1]
    await c.kill()
    await d.promote()
    third = histories.own(d.settings.data_dir, 3)
    assert [stretch.timeline for stretch in third] == [1, 2, 3]
    assert third[1].begun_by == of_c.begun_by
    assert (third[2].begun_by or "").startswith("d, promotion ")
    assert timelines.contradicted(await c.told(), third) is None


async def promote_again(node: Node) -> None:
    await node.kill()
    await node.start(Standby(), cluster_name=f"{node.settings.name}/again")
    await node.promote()


async def test_a_node_is_not_rewound_through_another_timeline_of_the_same_number(nodes: Nodes) -> None:
    """[M] pg_rewind takes both for an ancestor of both, and seeks the fork where there is nothing left of it."""
    b, c, _ = await promoted_from_one_position(nodes)
    await promote_again(b)
    await b.stop()
    for _ in range(2):
        await promote_again(c)
    await execute(c, "checkpoint")
    source = f"host={c.settings.socket_dir} port={c.settings.port} user=hotsite_agent dbname=postgres"
    output = await run(
        b.account,
        [
            b.settings.binaries["pg_rewind"],
            "-D",
            str(b.settings.data_dir),
            "--dry-run",
            "--source-server",
            source,
        ],
        folder=b.settings.config_dir,
        deadline=SOON,
    )
    found = re.search(r"servers diverged at WAL location (\S+) on timeline 3", output)
    fork = timelines.fork(await b.history(), await c.history())
    assert found is not None
    assert fork is not None
    assert lsn.parse(found[1]) > fork
    with pytest.raises(NeedsClone, match=r"timeline 2 of 127\.0\.0\.1:\d+ is another one than ours"):
        await b.rewind_from(rewind_target(c), timeline=4)
    assert not b.needs_clone()  # nothing was touched


async def test_only_the_last_name_that_was_given_counts(nodes: Nodes) -> None:
    """An agent may die between the name and the promotion, as often as it likes."""
    a = await nodes.primary("a")
    b = await nodes.standby("b", of=a)
    await a.stop()
    given = [
        await histories.name_next(b.settings.data_dir, "b", at_least=1, owner=b.account.owner)
        for _ in range(3)
    ]
    assert len(set(given)) == 3
    before = (b.settings.data_dir / "pg_wal" / "00000001.history").read_text()
    assert before == f"# begun by {given[-1]}\n"
    assert await b.told() == {Stretch(timeline=1, begin=0, end=None)}  # no timeline was begun
    await b.promote()
    assert histories.own(b.settings.data_dir, 2)[-1].begun_by not in given
