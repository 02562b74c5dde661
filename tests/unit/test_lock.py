"""requirements.lock: every version with its hashes, from no index in particular, in step with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
LOCK = (PROJECT / "requirements.lock").read_text()
SETTINGS, CLIENT = (
    tomllib.loads((PROJECT / folder / "pyproject.toml").read_text())["project"]
    for folder in ("", "clients/python")
)
DIRECT = [
    Requirement(text)
    for texts in (
        SETTINGS["dependencies"],
        *SETTINGS["optional-dependencies"].values(),
        CLIENT["dependencies"],
    )
    for text in texts
]
ENTRY = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>[\w.!+-]+)(?: ; [^\\]+?)? \\"
    r"(?:\n +--hash=sha256:[0-9a-f]{64}(?: \\)?)+"
)


def entries() -> list["re.Match[str]"]:
    """What is locked; nothing stands in the file but that, and comments."""
    bare = re.sub(r"^ *#.*\n", "", LOCK, flags=re.MULTILINE)
    found = list(ENTRY.finditer(bare))
    assert ENTRY.sub("", bare).strip() == ""
    return found


def test_every_version_has_its_hashes_and_nothing_else_is_in_the_file() -> None:
    assert len(entries()) > len(DIRECT)


def test_it_names_no_address() -> None:
    assert "://" not in LOCK
    assert "index-url" not in LOCK
    assert "find-links" not in LOCK


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_each_direct_dependency_is_locked_at_a_version_within_its_range(wanted: Requirement) -> None:
    versions = [
        e["version"] for e in entries() if canonicalize_name(e["name"]) == canonicalize_name(wanted.name)
    ]
    assert versions
    assert all(wanted.specifier.contains(version, prereleases=True) for version in versions)


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_each_range_has_both_ends(wanted: Requirement) -> None:
    assert {bound.operator for bound in wanted.specifier} >= {">=", "<"}
