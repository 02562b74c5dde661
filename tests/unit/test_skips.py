"""In CI as root a missing program is a failure; elsewhere a skip whose reason is printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import STAYS, lacks

ROOT = Path(__file__).parents[2]
SKIPPED = """
import pytest

@pytest.mark.skipif(True, reason="needs HAProxy")
def test_marked(): ...

def test_by_itself():
    pytest.skip("needs HAProxy")

@pytest.fixture
def absent():
    pytest.skip("needs HAProxy")

def test_by_its_fixture(absent): ...

@pytest.mark.xfail(reason="known")
def test_that_is_expected_to_fail():
    assert False
"""


@pytest.mark.parametrize(
    ("reason", "environment", "uid", "expected"),
    [
        ("needs HAProxy", {"CI": "true"}, 0, True),
        ("needs HAProxy", {"CI": "true"}, 1000, False),
        ("needs HAProxy", {}, 0, False),
        *((reason, {"CI": "true"}, 0, False) for reason in STAYS),
    ],
)
def test_only_ci_as_root_has_all_that_tests_need(reason, environment, uid, expected):
    assert lacks(reason, environment, uid) is expected


@pytest.mark.parametrize("ci", [True, False])
def test_a_skip_is_told_as_what_it_is(ci, tmp_path):
    file = tmp_path / "test_skipped.py"
    file.write_text(SKIPPED)
    env = {
        name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            os.devnull,
            "-p",
            "tests.skips",
            "-rs",
            "-p",
            "no:cacheprovider",
            file,
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**env, **({"CI": "true"} if ci else {})},
        check=False,
    )
    refused = ci and os.geteuid() == 0
    assert ("1 failed, 1 xfailed, 2 errors" if refused else "3 skipped, 1 xfailed") in done.stdout
    assert done.stdout.count("needs HAProxy") >= (3 if refused else 1)
