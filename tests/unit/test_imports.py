"""The packages import in one direction only, and the client none of them (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "replication": set(),
    "sitecontrol": {"replication"},
    "dispatcher": {"replication", "sitecontrol"},
    "healthcheck": {"replication", "sitecontrol"},
    "hotsite_client": set(),
}
ELSEWHERE = {"hotsite_client": ROOT / "clients" / "python"}


def imported(path: Path) -> set[str]:
    """Top-level names of every absolute import in the file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(package):
    allowed = MAY_IMPORT[package] | {package}
    wrong = {
        str(path.relative_to(ROOT)): forbidden
        for path in (ELSEWHERE.get(package, ROOT) / package).rglob("*.py")
        if (forbidden := (imported(path) & MAY_IMPORT.keys()) - allowed)
    }
    assert wrong == {}
