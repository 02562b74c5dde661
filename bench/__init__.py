"""How fast it is, measured on a real lab. `python -m bench --help`."""
