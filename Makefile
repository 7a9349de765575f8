# What a fresh machine needs: make and Python 3.11 or newer. Everything else is installed into .venv, pinned and hashed.
#
#   make demo     a sales automation's day and week: recorded, sealed, verified, queried, rendered
#   make test     every check: lint, types, layers, doctests, tests, coverage
#   make lint     the checks that run nothing       make format  rewrites the layout of the code
#   make bench    the table of the README           make lock    resolves the requirements anew
#   make clean    removes what these made
#
# PYTHON=python3.12 make test picks another interpreter, PYTEST_ARGS adds to pytest's arguments, JOBS sets its processes.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format bench lock clean notebooks

VENV ?= .venv
JOBS ?= 2
PYTEST_ARGS ?=
UPGRADE ?=
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$name && break; done)

BIN := $(VENV)/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
PIP := python -m pip --disable-pip-version-check --quiet
# The files hold every dependency, so pip needn't look for any: where it does, it meets releases younger than the pins,
# and pip 23 gives up at the first of them that is asked for with an extra. "pip check" tells whether one is missing.
INSTALL := $(PIP) install --no-deps

# Where bytecode isn't kept, each of the many processes of the tests compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

help:
	@sed -n 's/^#   //p' Makefile

# One stamp for each state of the environment, so that a second run installs nothing. The stamp of the development
# requirements counts for the runtime ones too, as those are a part of them.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "auditkit needs Python 3.11 or newer and found none: install it, or name one as in 'make $(MAKECMDGOALS) PYTHON=/path/to/python3'" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "auditkit needs Python 3.11 or newer, and PYTHON=$(PYTHON) isn't" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) can't make virtual environments: install its venv module (on Debian and Ubuntu the package python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(BIN)/python
	$(BIN)/$(INSTALL) --require-hashes -r requirements/run.txt
	$(BIN)/$(INSTALL) --no-build-isolation --editable .
	$(BIN)/$(PIP) check
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt requirements/run.txt pyproject.toml | $(BIN)/python
	$(BIN)/$(INSTALL) --require-hashes -r requirements/dev.txt
	$(BIN)/$(INSTALL) --no-build-isolation --editable .
	$(BIN)/$(PIP) check
	@touch $(VENV)/run.stamp $@

demo: $(VENV)/run.stamp
	$(BIN)/auditkit demo

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: lint notebooks
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --cov --cov-report=term $(PYTEST_ARGS)

# The cells of a notebook belong together: neither shuffled nor spread over processes.
notebooks: $(VENV)/dev.stamp
	$(if $(NOTEBOOKS),$(BIN)/python -m pytest -p no:randomly --nbval-lax --nbval-current-env $(NOTEBOOKS))

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

# The pins that are in the files stay, unless UPGRADE=1 asks for the newest. Hashes of every platform, no index lines.
COMPILE := $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

lock:
	test -x $(VENV)/lock/bin/python || "$(PYTHON)" -m venv $(VENV)/lock
	$(VENV)/lock/bin/$(INSTALL) --require-hashes -r requirements/lock.txt
	$(COMPILE) pyproject.toml --extra all --group dev --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --extra all --group build --constraints requirements/dev.txt --output-file requirements/run.txt
	$(COMPILE) --group lock --output-file requirements/lock.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	rm -f .coverage .coverage.*
