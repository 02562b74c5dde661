"""Which migrations are due."""

import re
from itertools import groupby

import pytest

from dispatcher.migrate import Migration, MigrationError, Phase, migrations, plan


def file(number: int, phase: Phase, sql: str = "select 1") -> Migration:
    return Migration(number=number, phase=phase, name=f"{number:04}_x.{phase.name.lower()}.sql", sql=sql)


ALL = [file(1, Phase.PRE), file(1, Phase.POST), file(2, Phase.PRE), file(2, Phase.POST)]


def applied(*done: Migration) -> dict[str, str]:
    return {migration.name: migration.checksum for migration in done}


def names(planned: tuple[Migration, ...]) -> list[str]:
    return [migration.name for migration in planned]


def test_a_fresh_database_gets_all_pre_files_and_the_overdue_post_files() -> None:
    now, waiting = plan(ALL, {}, post=False)
    assert names(now) == ["0001_x.pre.sql", "0001_x.post.sql", "0002_x.pre.sql"]
    assert names(waiting) == ["0002_x.post.sql"]


def test_post_files_wait_while_nothing_newer_comes() -> None:
    now, waiting = plan(ALL[:2], applied(ALL[0]), post=False)
    assert names(now) == []
    assert names(waiting) == ["0001_x.post.sql"]


def test_asked_for_post_nothing_waits() -> None:
    now, waiting = plan(ALL, applied(*ALL[:3]), post=True)
    assert (names(now), names(waiting)) == (["0002_x.post.sql"], [])


def test_a_changed_file_is_refused_by_name() -> None:
    with pytest.raises(MigrationError, match=r"0001_x\.pre\.sql"):
        plan([file(1, Phase.PRE, "select 2")], applied(ALL[0]), post=False)


def test_what_a_newer_version_applied_does_not_matter() -> None:
    assert plan(ALL[:1], applied(*ALL), post=True) == ((), ())


def test_shipped_files_have_one_number_each_and_no_transaction_of_their_own() -> None:
    shipped = migrations()
    assert shipped
    for _, same in groupby(shipped, key=lambda m: (m.number, m.phase)):
        assert len(list(same)) == 1
    for migration in shipped:
        assert re.search(r"^\s*(commit|rollback)\b", migration.sql, re.IGNORECASE | re.MULTILINE) is None
