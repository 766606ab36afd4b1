# One command each: `make demo`, `make test`, `make check`. Only python3.11 (or newer) and make have to be there.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
# The tests run side by side; JOBS=0 runs them one after the other.
JOBS   ?= auto

# Bytecode is compiled at installation, once: without it every process start would compile every import again.
export UV_COMPILE_BYTECODE := 1
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
export VIRTUAL_ENV := $(abspath $(VENV))
unexport PYTHONPATH
unexport PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench lock reference clean

help:           ## this list
	@awk -F ':.*## *' '/^[a-z]+:.*##/ { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:          ## everything that falaj and its tests need, in .venv
	@PYTHON="$(PYTHON)" sh tools/setup.sh $(VENV)

demo: setup     ## a year of flights through the whole life of a model
	@$(BIN)/python -m examples.flights.demo $(ARGS)

test: setup     ## every test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: setup    ## format, lint, types, imports, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(ARGS)

bench: setup    ## every benchmark, one line a figure
	$(BIN)/python -m benchmarks $(ARGS)

lock: setup     ## requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --no-header --generate-hashes --universal --python-version 3.11 \
	  --extra dev --no-emit-package falaj --upgrade pyproject.toml --output-file requirements.lock
	@! grep -n '://' requirements.lock

reference: setup ## docs/reference anew from the code
	$(BIN)/python -m tools.reference

clean:          ## what the other targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
