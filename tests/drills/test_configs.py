"""The settings that the project ships, and those that a lab renders, are read without complaint."""

from pathlib import Path

import pytest

from sitecontrol.lab import render
from sitecontrol.lab.installation import Installation
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.plan import ExternalCarrier, Lab, LabOptions, Plan
from sitecontrol.lab.ports import PLACES, SITES
from sitecontrol.settings import Environment, Settings, load

CONFIGS = Path(__file__).parents[2] / "configs"


def plan_in(folder: Path, **options: object) -> Plan:
    installation = Installation(
        etcd=Path("/usr/bin/etcd"),
        etcd_from_wheel=False,
        postgres_bin=Path("/usr/lib/postgresql/15/bin"),
        run_as="postgres",
        postgres_root=folder / "postgres",
    )
    lab_dir = LabDir.at(folder)
    lab_dir.create()
    return Plan(
        Lab(id="test", options=LabOptions.model_validate(options), installation=installation), lab_dir
    )


def rendered(plan: Plan, carrier_passwords: dict[str, str] | None = None) -> dict[str, Settings]:
    render.write_all(plan, carrier_passwords or {})
    return {place: load(plan.directory.config(place)) for place in PLACES}


@pytest.mark.parametrize("place", PLACES)
def test_the_shipped_settings_are_for_their_place_and_for_production(place: str) -> None:
    settings = load(CONFIGS / f"{place}.toml")
    assert settings.here.name == place
    assert settings.site.environment is Environment.PRODUCTION
    assert {p.name for p in settings.place} == set(PLACES)


def test_the_shipped_settings_agree_on_where_everything_is() -> None:
    assert len({load(CONFIGS / f"{place}.toml").place for place in PLACES}) == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_lab_renders_settings_that_pass(place: str, tmp_path: Path) -> None:
    settings = rendered(plan_in(tmp_path / "lab"))[place]
    assert settings.here.name == place
    assert settings.site.environment is Environment.LAB


def test_a_place_reaches_its_own_services_direct_and_the_others_through_doors_of_its_own(
    tmp_path: Path,
) -> None:
    plan = plan_in(tmp_path / "lab")
    places = rendered(plan)
    doors = {str(route.door) for route in plan.routes}
    direct = {str(port) for place in PLACES for port in plan.services(place).values()}
    seen: set[str] = set()
    for here, settings in places.items():
        for place in settings.place:
            ports = {n.postgres.rpartition(":")[2] for n in place.nodes}
            ports |= {n.agent.rpartition(":")[2] for n in place.nodes}
            ports |= {d.url.rpartition(":")[2] for d in place.dispatchers}
            assert ports <= (direct if place.name == here else doors)
            assert place.name == here or not ports & seen
            seen |= ports
        assert settings.etcd.endpoints[0].endswith(str(plan.ports.place(here).etcd_client))
        assert all(url.rpartition(":")[2] in doors for url in settings.etcd.endpoints[1:])


def test_secrets_are_private_and_kept_over_a_second_rendering(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "lab")
    rendered(plan)
    before = {path.name: path.read_text() for path in plan.directory.secrets.iterdir()}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in plan.directory.secrets.iterdir())
    rendered(plan)
    assert {path.name: path.read_text() for path in plan.directory.secrets.iterdir()} == before


def test_an_smsc_of_ones_own_replaces_the_simulators_and_brings_its_password(tmp_path: Path) -> None:
    carrier = ExternalCarrier(name="mine", host="127.0.0.1", port=2775, system_id="me")
    plan = plan_in(tmp_path / "lab", carriers=[carrier.model_dump()])
    settings = rendered(plan, {"mine": "sesame"})["columbus"]
    assert [(c.name, c.system_id) for c in settings.carrier] == [("mine", "me")]
    assert plan.secret("carrier-mine").read_text() == "sesame\n"
    rendered(plan)  # a later start, at which no password is given
    assert plan.secret("carrier-mine").read_text() == "sesame\n"
    assert not [p for p in plan.processes if p.name.startswith("carrier-")]
    assert {(r.source, r.target_port) for r in plan.routes if r.service == "smpp"} == {
        (s, 2775) for s in SITES
    }


def test_a_full_lab_fits_into_its_hundred_ports(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "lab", dispatchers=5, simulators=4)
    assert min(plan.listening) >= 7100
    assert max(plan.listening) < 7200
    assert len({r.door for r in plan.routes}) == len(plan.routes)
