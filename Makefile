# Everything that people and CI do here. Each target first brings in what it needs (devstack/bootstrap.sh: 10 ms when
# nothing is missing), so that `make demo` works on a fresh machine with Python 3.11, git and make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Compiled modules are kept, with all other state in .fuzhen, whatever the machine's own habit: half of a start is imports.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.fuzhen/pycache

PYTHON := .fuzhen/venv/bin/python
PYTEST := $(PYTHON) -m pytest
PURE := $(wildcard services/*/domain.py services/*/domain)
story ?=
s ?=
kind ?= processors
options ?=

.PHONY: help demo up down status logs clean test test-unit test-contract test-integration test-e2e check chaos fmt ready ready-check

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-17s\033[0m %s\n", $$1, $$2}' Makefile

demo: ready ## play the guide on the real parts (story=missed plays one); starts what is not up, ends what it started
	@$(PYTHON) -m devstack run $(PYTHON) -m devstack.story $(story)

up: ready ## start everything and leave it running; prints the URLs and a curl that books a visit
	@$(PYTHON) -m devstack up
	@$(PYTHON) -m devstack.paste

down: ready ## end everything
	@$(PYTHON) -m devstack down

status: ready ## what runs, and how it is
	@$(PYTHON) -m devstack status

logs: ready ## the logs of one service and its processes, followed (s=payment); of all without s
	@$(PYTHON) -m devstack logs $(s)

clean: ## end everything and remove all state: data, logs, secrets, tools, environment
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m devstack down; fi
	@rm -rf .fuzhen && echo ".fuzhen is gone"

test: ready ## all tests: unit, contract, integration on real parts, end to end
	@$(PYTEST) tests/unit tests/contract tests/integration tests/e2e

test-unit: ready ## unit tests alone: no server, under 20 s
	@$(PYTEST) tests/unit -n 2

test-contract: ready ## what producers emit and consumers read, against events/
	@$(PYTEST) tests/contract

test-integration: ready ## on real parts: Docker's when an engine answers, the devstack's otherwise
	@$(PYTEST) tests/integration

test-e2e: ready ## the stories, on a whole stack of their own
	@$(PYTEST) tests/e2e

check: ready-check ## lint, types, imports, contracts against themselves and origin/main, every rule held by a test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy eventkit $(PURE)
	.fuzhen/venv/bin/lint-imports
	$(PYTHON) -m events.check
	$(PYTHON) -m events.compat
	$(PYTHON) -m tests.rules check

chaos: ready ## kill -9 campaigns (kind=processors, options="kills=40 seed=1"); exit code 0 when all held
	@$(PYTHON) -m tests.chaos $(kind) $(options)

fmt: ready ## sort imports and apply ruff's safe fixes
	@$(PYTHON) -m ruff check --fix .

ready:
	@devstack/bootstrap.sh

ready-check:
	@devstack/bootstrap.sh check
