# The same targets serve people and CI. `make help` lists them.
# They need make, git and Python 3.11 or newer; everything else goes into .venv, which is made when it is missing.

VENV := .venv
BIN := $(VENV)/bin
REPORTS := .reports
# How many tests run at once, and more arguments for pytest: make test PYTEST_ARGS="-k retries"
JOBS ?= 2
PYTEST_ARGS ?=
DEMO_FILES ?= 5000
# Which task runner the demo uses: make demo RUNNER=dask
RUNNER ?= concurrent

# One stamp for each set of packages: installed again only when pyproject.toml is newer.
BASE := $(VENV)/.installed-base
TEST := $(VENV)/.installed-test

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-faults behaviours check format bench bench-peers wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 22

$(BIN)/python:
	@python="$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh)" && \
	echo "making $(VENV) with $$("$$python" --version) ($$python)" && \
	{ "$$python" -m venv $(VENV) || { \
	echo "$(VENV) could not be made. If it was made by a Python that is gone, remove it first: rm -rf $(VENV)" >&2; exit 1; }; }

$(BASE): pyproject.toml | $(BIN)/python
	@echo "installing the project into $(VENV)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(TEST): pyproject.toml | $(BIN)/python
	@echo "installing the project and what its tests need into $(VENV)"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $(BASE) $@

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "installing the project and what its task runner for $* needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[$*]'
	@touch $(BASE) $@

demo: $(if $(filter dask ray,$(RUNNER)),$(VENV)/.installed-$(RUNNER),$(BASE)) ## run the census over the interpreter's files, on a RUNNER (dask, ray, …)
	@$(BIN)/core-engine run examples/source_census.py:census --runner $(RUNNER) -p limit=$(DEMO_FILES)

test: $(TEST) ## run the tests
	@$(PYTEST) -m "not faults" --behaviour-report=$(REPORTS)/behaviours-test.json $(PYTEST_ARGS)

test-faults: $(TEST) ## run the slow tests that break things for real
	@$(PYTEST) -m faults --behaviour-report=$(REPORTS)/behaviours-faults.json $(PYTEST_ARGS)

behaviours: $(TEST) ## show which test holds which behaviour, after `make test`
	@$(BIN)/python scripts/behaviours.py

check: $(TEST) ## lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(TEST) ## format the code and apply the linter's safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(TEST) ## measure what a task run costs: half an hour, or some minutes with QUICK=1
	@$(BIN)/python -m compileall -q core_engine runners benchmarks # as pip does for the engines beside it
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(BENCH_ARGS)

bench-peers: $(TEST) ## measure other engines beside it, in virtual environments of their own
	@$(BIN)/python -m benchmarks.peers $(BENCH_ARGS)

wheel: $(TEST) ## build the wheel into dist/ and check what is in it
	@rm -rf dist
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@$(BIN)/python scripts/check_wheel.py dist/*.whl

clean: ## remove what the other targets made, but not .venv
	rm -rf build dist $(REPORTS) .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
