# Every target installs what it needs into .venv first. A bare machine has Python 3.11 and make.
PYTHON ?= python3.11
BIN := .venv/bin
UV_VERSION := 0.13.9

.PHONY: install demo test check lint faults bench bench-learning stack default-model lock dashboards clean tools

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3.11-venv" >&2; exit 1; }
	@echo "installing into .venv (the first time this fetches about 3 GB, most of it for torch) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=.venv UV_COMPILE_BYTECODE_TIMEOUT=600 $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -c "from worker.pipeline import warm_up; warm_up()"  # compiled now, no first start has to wait for it
	@$(BIN)/python -c "from worker.audit.scores import warm_up; warm_up()"
	@touch $@

demo: install
	@$(BIN)/inkling demo $(if $(KEEP),--keep)

stack: install
	@$(BIN)/inkling stack run

# Two at a time; what starts servers is one group (tests/conftest.py), as it mostly waits for them.
test: install tools
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

# What only tests need and only Debian has: installed where we may, and otherwise the tests say what they skip.
tools:
	@deploy/debian-test-tools

# Within a minute: what trains is left to make test.
check: install lint
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not slow' tests/unit --ignore tests/unit/training

# Crashes, pauses, rebalances and lost requests on simulated Kafka, from seeds; then known bugs, each of which has to be caught;
# then real workers on genuine Kafka and Triton, killed, paused and flooded. SEED decides all of it.
SEED ?= 0
faults: install
	@$(BIN)/python -m tests.faults --schedules 10000 --seed $(SEED)
	@$(BIN)/python -m tests.faults --mutants
	@$(BIN)/python -m tests.faults.real --seed $(SEED)

# The peers that we compare with have an environment of their own.
.venv-bench/.installed: tests/benchmarks/requirements.lock .venv/.installed
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-bench
	@VIRTUAL_ENV=.venv-bench $(BIN)/uv pip install --quiet --require-hashes -r tests/benchmarks/requirements.lock
	@touch $@

bench: install .venv-bench/.installed
	@$(BIN)/python -m tests.benchmarks --write-docs

# How much of what can be known of simulated shops `inkling train` learns, then every technique on a simulated log and, where they
# are, on real ones: hours on two cores. Each part can be run alone, and on one set.
bench-learning: install
	@$(BIN)/python -m tests.benchmarks.learning
	@$(BIN)/python -m tests.benchmarks.leaderboard --write-docs

lint: install
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

default-model: install
	@$(BIN)/python -m training.default_version

dashboards: install
	@$(BIN)/python -m deploy.grafana.dashboards

lock: install
	@$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --generate-hashes --no-emit-index-url --quiet -o requirements.lock

clean:
	rm -rf .venv .venv-bench .inkling .pytest_cache .mypy_cache .ruff_cache .hypothesis
