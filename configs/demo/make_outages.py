"""Makes the outage list of the demo: customers of an invented utility whose power is out.

    python configs/demo/make_outages.py --customers 5000 --seed 1 --output outages.csv

The same seed makes the same file. The telephone numbers are those kept for fiction (555-0100 to 555-0199 in any
area code), names and streets are drawn from short lists: nobody in it exists.
"""

import argparse
import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

from sitecontrol.lab.numbers import fictional_number

FIRST_NAMES = (
    *(
        "Ada",
        "Ben",
        "Carla",
        "Dev",
        "Elena",
        "Frank",
        "Grace",
        "Hugo",
        "Ines",
        "Jamal",
        "Keiko",
        "Liam",
        "Mara",
    ),
    *(
        "Noor",
        "Owen",
        "Priya",
        "Quinn",
        "Rosa",
        "Sam",
        "Tara",
        "Uma",
        "Victor",
        "Wendy",
        "Ximena",
        "Yusuf",
        "Zoe",
    ),
)
LAST_NAMES = (
    *(
        "Abbott",
        "Baker",
        "Castillo",
        "Dunn",
        "Ellis",
        "Fischer",
        "Garcia",
        "Hughes",
        "Ibrahim",
        "Jensen",
        "Kim",
    ),
    *("Lopez", "Meyer", "Nguyen", "Okafor", "Patel", "Quigley", "Rossi", "Schmidt", "Tran", "Ueda", "Vance"),
)
STREETS = ("Alder", "Birch", "Canal", "Dover", "Elm", "Foundry", "Grant", "High", "Island", "Juniper", "King")
KINDS = ("St", "Ave", "Rd", "Ln", "Ct")
CIRCUITS = tuple(
    f"{station}-{feeder:02d}" for station in ("BRW", "CLN", "EAS", "HIL", "NTH") for feeder in range(1, 9)
)
CAUSES = ("storm damage", "a fallen tree", "failed equipment", "a vehicle accident")
OUTAGE_BEGAN = datetime(2026, 3, 14, 15, 5)  # noqa: DTZ001 # local time at the premises, as crews speak of it
COLUMNS = ("account", "name", "phone", "premises", "circuit", "cause", "restored_by")


def make_rows(customers: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    # A whole circuit is restored at one time: its customers are told the same estimate.
    estimate = {c: OUTAGE_BEGAN + timedelta(minutes=15 * rng.randint(4, 24)) for c in CIRCUITS}
    cause = {c: rng.choice(CAUSES) for c in CIRCUITS}
    rows = []
    for number in range(customers):
        circuit = rng.choice(CIRCUITS)
        rows.append(
            {
                "account": f"{70_000_000 + number * 7}",
                "name": f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
                "phone": fictional_number(number),
                "premises": f"{rng.randint(1, 2400)} {rng.choice(STREETS)} {rng.choice(KINDS)}",
                "circuit": circuit,
                "cause": cause[circuit],
                "restored_by": estimate[circuit].isoformat(timespec="minutes"),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(make_rows(arguments.customers, arguments.seed))


if __name__ == "__main__":
    main()
