"""Every drill, by name: a story each, in one module for each kind of fault."""

from sitecontrol.drills.drill import Drill
from sitecontrol.drills.stories import clocks, data, etcd, lines, places, processes, rooms, swaps

DRILLS: dict[str, Drill] = {
    drill.name: drill
    for module in (swaps, places, processes, lines, etcd, data, clocks, rooms)
    for drill in module.DRILLS
}
