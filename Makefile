# Every target sets up what it needs in .venv; a machine with Python 3.10 or newer and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
ARGS ?=
SOURCES := lback_relay tests $(if $(wildcard worker/lback_signal_worker/*.py),worker/lback_signal_worker)
# Each package is held to this by itself: a well-tested one must not hide the other.
MIN_COVERAGE := 90

.DEFAULT_GOAL := help
.PHONY: help setup test pythons faults faults-long faults-three security lock soak bench bench-quick bench-guard demo demo-check lint types format coverage clean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## make .venv with everything installed

$(READY): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "make: no '$(PYTHON)' on the PATH; install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: '$(PYTHON)' is older than Python 3.10; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" --version); the first time this takes a minute or two"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[test]'
	@touch $@

# A part of the tests (ARGS given) says nothing about coverage, so it is not held to it.
test: $(READY) ## run the tests and hold the coverage; make test ARGS='-k url' runs a part
ifeq ($(strip $(ARGS)),)
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	@$(MAKE) --no-print-directory coverage
else
	$(BIN)/python -m pytest $(ARGS)
endif

# The oldest Python with the oldest dependencies, and the newest with the newest.
pythons: ## run the unit and contract tests on Python 3.10 (oldest dependencies) and 3.13
	@.ci/on-python 3.10 -c .ci/lowest.txt
	@.ci/on-python 3.13

coverage: $(READY) ## report the branch coverage of the last whole test run, at least 90 % a package
	@! ls .coverage.* >/dev/null 2>&1 || $(BIN)/coverage combine --quiet
	@for package in lback_relay worker/lback_signal_worker; do \
		if ls $$package/*.py >/dev/null 2>&1; then \
			echo "Branch coverage of $$package:"; \
			$(BIN)/coverage report --include="$$package/*" --fail-under=$(MIN_COVERAGE) || exit 1; \
		else \
			echo "Branch coverage of $$package: NOT MEASURED, it has no modules yet"; \
		fi; \
	done

# SEED=n repeats a run, SERVER=redis-6.2 or valkey chooses the server. Row 21 needs the history of this
# repository: OLD=revision, or the version before the last change.
SEED ?=
SERVER ?=
OLD ?=
FAULTS := $(BIN)/python -m pytest tests/faults $(if $(SERVER),--faults-server $(SERVER)) $(if $(SEED),--faults-seed $(SEED)) $(if $(OLD),--faults-old $(OLD))

faults: $(READY) ## run the fault suite, about twelve minutes; figures in build/faults.json; SEED=n, SERVER=redis-6.2
	@mkdir -p build
	$(FAULTS) -m faults --faults-json build/faults.json $(ARGS)

faults-three: $(READY) ## run the fault suite three times in a row, with another seed each time
	for run in 1 2 3; do $(MAKE) --no-print-directory faults SEED= || exit 1; done

faults-long: MINUTES = 10
faults-long: $(READY) ## 100,000 envelopes in a storm of kills, and MINUTES=n of a Redis that comes and goes
	@mkdir -p build
	$(FAULTS) -m faults_long --faults-minutes $(MINUTES) --faults-json build/faults-long.json $(ARGS)

# The guided fuzzer has an environment of its own: it comes as a wheel for some Pythons only.
FUZZ := .venv-fuzz

security: $(READY) $(FUZZ)/.tried ## try every attack of docs/security.md, about five minutes; the table in build/security.json
	@mkdir -p build
	$(BIN)/python -m pytest tests/security --security-full --security-json build/security.json $(ARGS)

$(FUZZ)/.tried: pyproject.toml
	@"$(PYTHON)" -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary atheris -e '.[fuzz]' \
		|| { echo "make: no atheris for $$("$(PYTHON)" --version): a million inputs are damaged at random instead" >&2; rm -rf $(FUZZ)/bin; }
	@touch $@

lock: $(READY) ## write the versions of everything in .venv into .ci/lock.txt
	@{ head -n 2 .ci/lock.txt && $(BIN)/python -m pip freeze --exclude-editable; } >.ci/lock.new && mv .ci/lock.new .ci/lock.txt

MINUTES ?= 1
RATE ?= 150

soak: $(READY) ## run load with random faults for MINUTES=n, then check all that is promised; SEED=n repeats
	PYTHONPATH=tests:worker:. $(BIN)/python -m soak --minutes $(MINUTES) --rate $(RATE) $(if $(SERVER),--server $(SERVER)) $(if $(SEED),--seed $(SEED))

# ARGS="--only METRIC,… --peers NAME,… --json FILE --rounds N". The peers' virtual environments are
# made in build/bench-venvs the first time, and kept.
BENCH := PYTHONPATH=tests:worker:. $(BIN)/python -m benchmarks

bench: $(READY) ## measure beside every peer, about 20 minutes; build/bench.json and docs/performance
	$(BENCH) --page $(ARGS)

bench-quick: $(READY) ## the same in less than three minutes, without pages, plots and a million
	$(BENCH) --quick $(ARGS)

bench-guard: $(READY) ## hold our speed to a part of plain redis-py's; wide margins, for CI
	PYTHONPATH=tests:worker:. $(BIN)/python -m benchmarks.guard

demo: $(READY) ## register users with and without the relay and compare
	$(BIN)/lback-relay demo $(ARGS)

demo-check: $(READY) ## run the demo and check its figures
	output="$$($(BIN)/lback-relay demo --json)" && printf '%s\n' "$$output" | $(BIN)/python .ci/check_demo.py

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict, sources and tests
	$(BIN)/mypy $(SOURCES)

format: $(READY) ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and everything made
	rm -rf $(VENV) $(VENV)-3.* $(FUZZ) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
