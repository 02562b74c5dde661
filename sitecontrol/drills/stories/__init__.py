"""Every drill, by name: a story each, in one module for each kind of fault."""

from sitecontrol.drills.drill import Drill
from sitecontrol.drills.stories import data, etcd, lines, places, processes, swaps

DRILLS: dict[str, Drill] = {
    drill.name: drill for module in (swaps, places, processes, lines, etcd, data) for drill in module.DRILLS
}
