"""`python -m tests.fuzz`: octets against the SMPP codec, the session and what reads receipts, for as long as you like.

With `atheris` (coverage leads it) where it is installed, else by mutating examples at random. What broke a promise is
written to a file, and given again to `--file` it breaks it again.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

EVERY_S = 60.0


@click.command()
@click.option("--seconds", type=float, default=60.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--file", "broken", type=click.Path(path_type=Path, exists=True), help="Try these octets only.")
@click.option(
    "--corpus", type=click.Path(path_type=Path), help="A folder to keep what was found interesting in."
)
def main(seconds: float, seed: int, broken: Path | None, corpus: Path | None) -> None:
    """Ends with 1, and the octets in a file, when a promise was broken."""
    try:
        import atheris  # noqa: PLC0415 # it may not be there, and must come before what it watches
    except ImportError:
        atheris = None
    if atheris is None or broken:
        from tests.fuzz.smpp import one, seeds  # noqa: PLC0415
    else:
        with atheris.instrument_imports(include=["dispatcher"]):
            from tests.fuzz.smpp import one, seeds  # noqa: PLC0415
    if broken:
        one(broken.read_bytes())
        return
    if atheris is None:
        mutate(one, list(seeds()), seconds, seed)
        return
    folder = corpus or Path(tempfile.mkdtemp(prefix="hotsite-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    for number, octets in enumerate(seeds()):
        (folder / f"seed-{number:02}").write_bytes(octets)
    options = [f"-max_total_time={int(seconds)}", f"-seed={seed}", "-max_len=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()


def mutate(one: Callable[[bytes], None], examples: list[bytes], seconds: float, seed: int) -> int:
    """Change examples at random and try them, for so many seconds; how many were tried."""
    chance = random.Random(seed)
    until = time.monotonic() + seconds
    tell_at = time.monotonic() + EVERY_S
    tried = 0
    while time.monotonic() < until:
        data = changed(bytearray(chance.choice(examples)), examples, chance)
        try:
            one(data)
        except Exception:
            with suppress(OSError):
                Path("fuzz-broken.bin").write_bytes(data)
            click.echo(f"broken after {tried}: {data.hex()}", err=True)
            raise
        tried += 1
        if time.monotonic() > tell_at:
            tell_at += EVERY_S
            click.echo(f"{tried} tried")
    click.echo(f"{tried} tried, none broke a promise")
    return tried


def changed(data: bytearray, examples: list[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at:at] = chance.choice(examples)
            case 1:
                del data[at : at + chance.randrange(1, 9)]
            case 2:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 3:
                data[at : at + 1] = bytes((chance.choice((0, 1, 0x1B, 0x7F, 0x80, 0xFF)),))
            case 4:
                data[at : at + 4] = chance.choice((0, 15, 16, len(data), 70_001, 0xFFFFFFFF)).to_bytes(
                    4, "big"
                )
            case _:
                data[at : at + 1] = chance.randbytes(1)
    return bytes(data)


if __name__ == "__main__":
    main()
