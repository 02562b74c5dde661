"""The rows of the `swap` lane that come before those of the swap in progress: one that is planned, and due."""

from collections.abc import Sequence

from sitecontrol.leadership import planning
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Row


def _due(f: Facts) -> bool:
    return f.swap is None and not f.bad("swap") and planning.due(f)


def _refused(f: Facts) -> bool:
    wanted = planning.planned(f)
    return _due(f) and wanted is not None and bool(planning.in_the_way(f, wanted))


ROWS: Sequence[Row] = (
    Row(
        "planned-missed",
        "The time of a planned swap is long past: drop it, and let the history tell that nobody could begin it.",
        lambda f: _due(f) and planning.missed(f),
        planning.drop_missed,
    ),
    Row(
        "planned-refused",
        "A planned swap is due, and something stands in its way: drop it, and let the history tell what.",
        _refused,
        planning.drop,
    ),
    Row(
        "planned-begins",
        "A planned swap is due, and nothing stands in its way: ask for it.",
        _due,
        planning.begin,
    ),
)
