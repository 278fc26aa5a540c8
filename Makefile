# What to type: `make help`.
.DEFAULT_GOAL := help
.PHONY: help setup demo test claim-race check format bench clean

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

$(INSTALLED): pyproject.toml sdk/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Samovar needs Python 3.11: install it, or name yours with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable 'sdk[cli]' --editable '.[all,dev]'
	touch $@

setup: $(INSTALLED) ## the virtual environment, the packages of the system, the base image
	@.ci/packages
	$(BIN)/python -m images base

demo: setup ## start Samovar, deploy the examples, run them for real and print a table
	$(BIN)/python examples/demo.py

test: setup ## the whole test suite
	$(BIN)/python -m pytest

claim-race: setup ## claims and cancels that race in many processes, in large numbers (a quarter of an hour)
	$(BIN)/python -m tests.race

check: $(INSTALLED) ## types, lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## write the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## the figures: cold and warm starts, redeploys, memory, each against a floor of the same run
	$(BIN)/python -m bench

clean: ## take away what make made (the base image stays)
	rm -rf $(VENV) .demo build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
