# `make` alone tells what there is. Everything works without root and without PostgreSQL or etcd installed; Debian and
# Ubuntu keep a part of Python that is needed in the package python3-venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CLIENT := clients/python
SEEDS  ?= 10000
ROUNDS ?= 20
SECONDS ?= 3600
WORKERS ?= 3

.PHONY: help setup demo lab test test-again check sim fuzz bench bench-peers failover-report lock clean

help:
	@echo "make demo    both sites on this machine, real traffic, one site killed, nothing lost"
	@echo "make lab     the same system, left running (sitectl lab down ends it)"
	@echo "make test    lint, types and the whole test suite"
	@echo "make test-again    what failed in the last make test, one after the other"
	@echo "make check   lint and types only"
	@echo "make sim     the failover in simulation, SEEDS=10000 schedules of faults"
	@echo "make fuzz    octets against the SMPP codec and session, SECONDS=3600"
	@echo "make bench   how fast it is, as ratios within one run"
	@echo "make bench-peers    the same traffic through Kannel and Jasmin, where they are installed"
	@echo "make failover-report    how long failures take, over ROUNDS=20 of drills, beside Patroni (3 hours)"
	@echo "make lock    write requirements.lock anew from pyproject.toml and the client's"
	@echo "make clean   end the labs of this folder, and remove what was made: .venv, labs, caches"

setup: $(STAMP)

# The stamp is newer than what it was made from: a second `make setup` does nothing. A .venv without pip is one that
# was not finished, and is made anew.
$(STAMP): pyproject.toml requirements.lock $(CLIENT)/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip; ensurepip.version()' 2>/dev/null || test -x $(BIN)/pip \
	  || { echo "$(PYTHON) cannot make a virtual environment: apt install python3-venv (once, by root)," \
	            "or make PYTHON=/path/to/a/complete/python setup" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } \
	  || { rm -rf $(VENV); echo "$(VENV) could not be made; what is said above tells why" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --editable . --editable $(CLIENT)
	@touch $@

demo: setup
	$(BIN)/sitectl demo

lab: setup
	$(BIN)/sitectl lab up --detach

# In the order of the folders: what takes long begins first, labs one after the other on one worker
# (tests/one_lab_at_a_time.py). More workers than cores, for the suite waits more than it reckons.
test: check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 30

# Only what failed in the last `make test`, one after the other. Nothing failed, or nothing ran: that is a failure.
test-again: check
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sim: setup
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --nodes-per-site 2

# Coverage leads the search where atheris has a wheel for this Python; else examples are changed at random.
fuzz: setup
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet 'atheris>=2.3,<4' \
	  || echo "atheris cannot be installed here: examples are changed at random"
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: setup
	$(BIN)/python -m bench

bench-peers: setup
	$(BIN)/python -m bench --only peers --seconds 20 --page docs/performance.md

failover-report: setup
	$(BIN)/python -m bench.failover --repeat $(ROUNDS)

lock:
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --extra lab --extra dev pyproject.toml $(CLIENT)/pyproject.toml --output-file requirements.lock

# A lab outlives the command that started it: it is ended before its programs and data go from under it. One that was
# ended has no pid files, so no sitectl is needed to know it.
clean:
	@for lab in .lab .lab-demo; do \
	  test -e $$lab/.hotsite-lab || continue; \
	  if test -x $(BIN)/sitectl; then \
	    $(BIN)/sitectl lab down --purge --dir $$lab \
	      || { echo "nothing was removed: the lab in $$lab could not be ended; what is said above tells why" >&2; exit 1; }; \
	  elif ls $$lab/run/*.json >/dev/null 2>&1; then \
	    echo "nothing was removed: the lab in $$lab may still run, and $(BIN)/sitectl, which ends it, is gone:" \
	         "\`make setup\` first" >&2; exit 1; \
	  fi; \
	done
	rm -rf $(VENV) .lab .lab-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
