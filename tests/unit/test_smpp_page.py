"""docs/smpp.md names every setting of a carrier, with its default, and files that are there."""

import re
from pathlib import Path

import pytest

from sitecontrol.settings import DispatcherSettings
from sitecontrol.settings_carriers import Carrier

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "smpp.md").read_text()
TABLE = PAGE[PAGE.index("## Settings of a carrier") : PAGE.index("## Tried against")]


@pytest.mark.parametrize("name", Carrier.model_fields)
def test_the_page_tells_of_every_setting(name):
    assert f"`{name}`" in TABLE


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("binds", "1"),
        ("window", "50"),
        ("rate", "10000"),
        ("bind_as", '`"transceiver"`'),
        ("long_text", '`"udh"`'),
    ],
)
def test_the_page_tells_the_defaults(name, told):
    assert f"| `{name}` | {told} |" in TABLE
    default = Carrier.model_fields[name].default
    assert told.strip('`"') == (f"{default:g}" if isinstance(default, float) else str(default))


def test_the_page_tells_how_long_parts_are_waited_for():
    wait = DispatcherSettings.model_fields["reply_wait"].default
    assert f"`reply_wait` ({wait:g} s)" in TABLE


def test_the_page_names_tests_that_are_there():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named <= {file.stem for file in (PROJECT / "tests").rglob("test_*.py")}
