"""What there is of the lab in a folder, running or not: by its record, or, when that is lost, by what can be seen.

`lab.json` tells a lab's mark and where its data lie. Damaged or removed, it tells neither; but whatever runs of the
lab still bears the mark and names the folder on its command line, and the data lie in one of two places.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from sitecontrol.lab import ownership
from sitecontrol.lab.installation import HOMES, postgres_roots
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.plan import Lab


@dataclass(frozen=True, kw_only=True)
class Remains:
    marks: tuple[str, ...]
    postgres_roots: tuple[Path, ...]

    @classmethod
    def of(cls, lab_dir: LabDir) -> Self:
        try:
            lab = Lab.model_validate_json(lab_dir.identity_file.read_bytes())
        except (OSError, ValueError):
            return cls(marks=ownership.marks_in(lab_dir.root), postgres_roots=postgres_roots(lab_dir.root))
        return cls(marks=(lab.id,), postgres_roots=(lab.installation.postgres_root,))

    @property
    def homes(self) -> list[Path]:
        return [root / home for root in self.postgres_roots for home in HOMES]

    @property
    def data_dirs(self) -> list[Path]:
        return [home / "data" for home in self.homes]

    def processes(self) -> list[psutil.Process]:
        return ownership.processes_of(self.marks, self.data_dirs)

    def end(self, *, within: float) -> int:
        """End whatever still runs. Returns how many there were."""
        return ownership.end(self.marks, self.data_dirs, within=within)
