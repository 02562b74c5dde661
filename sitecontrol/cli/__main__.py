"""`python -m sitecontrol.cli`: the same as `sitectl`."""

from sitecontrol.cli.root import main

if __name__ == "__main__":
    main()
