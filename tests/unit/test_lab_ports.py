"""Free ports for a lab: all of its hundred, or a refusal, never a guess."""

import socket

import pytest

from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.ports import SPAN, free_base
from tests import labs


def test_a_stretch_with_one_port_taken_is_passed_over() -> None:
    first = labs.free_base()
    with socket.create_server(("127.0.0.1", first + SPAN - 1)):
        with pytest.raises(
            LabRefusedError, match=f"no 100 free ports in a row from {first} to {first + SPAN}"
        ):
            free_base(first, first + SPAN)
        assert free_base(first, first + 29 * SPAN) > first


def test_runs_of_tests_side_by_side_have_stretches_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(labs.ports, "free_base", lambda *stretch: asked.append(stretch))
    for number in (0, 1, 19):
        monkeypatch.setattr(labs.ports_of_tests, "NUMBER", number)
        labs.free_base()
    assert asked == [(17_100, 17_500), (17_500, 17_900), (17_200, 17_600)]
