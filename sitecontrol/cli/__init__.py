"""`sitectl`: what operators type. `main` is the entry point."""

from sitecontrol.cli.root import main

__all__ = ["main"]
