"""Prints the part of a lock file that running needs: what `[project] dependencies` and the build system name, and all
that those bring along. The rest of the lock (tests, linters, a lab's PostgreSQL) has no business in an image.

usage: runtime_requirements.py PYPROJECT LOCK

The lock is as `make lock` writes it: each package with its version, its hashes, and after `# via` who brought it.
"""

import re
import sys
import tomllib
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical(requirement: str) -> str:
    """The name in a requirement, as all tools compare it."""
    match = NAME.match(requirement)
    if match is None:
        raise SystemExit(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def blocks(lock: str) -> dict[str, str]:
    """Name -> the lines of the lock that are about it."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {canonical(part): part for part in parts if part.strip()}


def brought_by(block: str) -> set[str]:
    """Who needs it."""
    told = block.partition("# via")[2].replace("#", " ").split("\n")
    return {canonical(line.strip()) for line in told if NAME.match(line.strip())}


def needed(roots: set[str], known: dict[str, str]) -> set[str]:
    """The roots and everything that they bring, step by step."""
    while True:
        more = roots | {name for name, block in known.items() if brought_by(block) & roots}
        if more == roots:
            return roots
        roots = more


def main(pyproject: str, lock: str) -> None:
    project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    known = blocks(Path(lock).read_text(encoding="utf-8"))
    chosen = needed({canonical(requirement) for requirement in wanted}, known)
    if missing := chosen - known.keys():
        raise SystemExit(f"{lock} lacks {', '.join(sorted(missing))}: run `make lock`")
    sys.stdout.writelines(known[name] for name in sorted(chosen))


if __name__ == "__main__":
    main(*sys.argv[1:])
