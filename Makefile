# What a contributor types; `make` lists it. CI runs the same targets (.ci/run).
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
NPM_STAMP := tests/peers/node_modules/.package-lock.json

# command or file : Debian package that has it
TEST_NEEDS := node:nodejs npm:npm strace:strace systemd-analyze:systemd \
  /usr/share/sounds/alsa/Front_Center.wav:alsa-utils

.PHONY: help run install install-tests test test-slow test-all lint format check bench docs clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

run: $(RUN_STAMP) ## the daemon, fed by a simulated wind park; Ctrl-C ends it: make run ARGS="--speed 5"
	@echo "In other terminals, first: cd $(CURDIR) && . $(BIN)/activate"
	@exec $(BIN)/wendelin-stream demo --config config/demo.yaml $(ARGS)

install: $(DEV_STAMP) ## virtual environment in .venv with all that a contributor needs

$(RUN_STAMP): pyproject.toml
	@scripts/venv $(VENV)
	@echo "Installing wendelin_stream and what it needs into $(VENV) ..."
	@$(PIP) install --editable '.[plot]'
	@touch $@

$(DEV_STAMP): pyproject.toml
	@scripts/venv $(VENV)
	@echo "Installing wendelin_stream, test and lint tools into $(VENV) ..."
	@$(PIP) install --editable '.[plot,test,lint]'
	@touch $@ $(RUN_STAMP)

install-tests: $(DEV_STAMP) ## what tests need besides: Debian packages and npm clients
	@scripts/need $(TEST_NEEDS)
	@$(MAKE) --no-print-directory $(NPM_STAMP)

$(NPM_STAMP): tests/peers/package.json tests/peers/package-lock.json
	@echo "Installing npm clients into tests/peers/node_modules ..."
	@cd tests/peers && npm ci --silent
	@touch $@

test: install-tests ## all tests but the slow ones: make test ARGS="-k welch"
	@$(PYTEST) -m "not slow" $(ARGS)

test-slow: install-tests ## the slow tests
	@$(PYTEST) -m slow -o faulthandler_timeout=0 $(ARGS)

test-all: install-tests ## every test
	@$(PYTEST) -o faulthandler_timeout=0 $(ARGS)

lint: $(DEV_STAMP) ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(DEV_STAMP) ## let ruff write what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: lint test ## lint and test: what a change must pass

bench: $(DEV_STAMP) ## the ratios that we promise, measured here
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV_STAMP) ## write docs/reference from the code, and check that every link in the pages leads somewhere
	@$(BIN)/python -m docs.generate
	@$(PYTEST) -q tests/house/test_documents.py
	@echo "The pages are plain Markdown: start with README.md."

clean: ## remove caches and build results
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find wendelin_stream tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## and the virtual environment and npm clients
	@rm -rf $(VENV) tests/peers/node_modules
