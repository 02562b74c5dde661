"""The rest of the fault matrix, in the middle of a swap, and beside no traffic."""

from pathlib import Path

import pytest

from tests.drills.rehearsal import IDLE, IN_SWAP, OF_EACH_KIND, REST, everything_holds

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.long]


@pytest.mark.parametrize("name", REST)
def test_everything_holds_in_the_drill(name: str, lab: Path, tmp_path: Path) -> None:
    everything_holds(name, lab, tmp_path)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in OF_EACH_KIND else pytest.mark.whole) for name in IN_SWAP],
)
def test_everything_holds_when_it_strikes_in_the_middle_of_a_swap(
    name: str, lab: Path, tmp_path: Path
) -> None:
    everything_holds(name, lab, tmp_path, "--in-swap")


@pytest.mark.parametrize("name", IDLE)
def test_everything_holds_beside_no_traffic_and_a_text_goes_through_at_the_end(
    name: str, lab: Path, tmp_path: Path
) -> None:
    outcome = everything_holds(name, lab, tmp_path, "--rate", "0")
    assert (outcome["accepted"], outcome["pause_s"]) == (2, None)  # one of each site
