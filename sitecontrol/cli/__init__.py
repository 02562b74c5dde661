"""`sitectl`: what operators type. `main` is the entry point; `SITECTL` starts it where no script is installed."""

import sys

from sitecontrol.cli.root import main

SITECTL = (sys.executable, "-m", "sitecontrol.cli")

__all__ = ["SITECTL", "main"]
