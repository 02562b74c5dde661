"""The code of the version before this one, out of this repository's own history, to run beside the present one.

`previous_version.txt` has the commit: the last one of what was landed before. Whoever lands the next version puts its
predecessor there. It runs with the libraries of the present one.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.sites import environment_of

ROOT = Path(__file__).parents[1]
PACKAGES = ("replication", "sitecontrol", "dispatcher", "healthcheck")
WHERE = "import sitecontrol; print(sitecontrol.__file__)"


def put_previous_version(folder: Path) -> str:
    """Unpack it there; its commit. The test is skipped where the history is not at hand, as in an unpacked archive."""
    commit = (ROOT / "tests" / "previous_version.txt").read_text().strip()
    git = ["git", "-C", str(ROOT)]
    try:
        packed = subprocess.run([*git, "archive", commit, *PACKAGES], check=True, capture_output=True).stdout
        ancestor = subprocess.run([*git, "merge-base", "--is-ancestor", commit, "HEAD"], check=False)
    except FileNotFoundError:
        pytest.skip("there is no git here, and so no version before this one")
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode(errors="replace").strip()
        pytest.skip(f"the version before this one is not in the history that is here: {why}")
    assert ancestor.returncode == 0, f"{commit} of tests/previous_version.txt is no ancestor of what is here"
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    found = subprocess.run(
        [sys.executable, "-c", WHERE],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment_of(folder),
    )
    assert Path(found.stdout.strip()).is_relative_to(folder.resolve()), found.stdout
    return commit
