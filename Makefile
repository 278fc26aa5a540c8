# What to type: `make help`.
.DEFAULT_GOAL := help
.PHONY: help setup packages base demo test test-long claim-race isolation-mutants fuzz fuzz-api soak pictures check format bench clean

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' Makefile

$(INSTALLED): pyproject.toml sdk/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Samovar needs Python 3.11: install it, or name yours with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable 'sdk[cli]' --editable '.[all,dev]'
	touch $@

setup: $(INSTALLED) packages base ## the virtual environment, the packages of the system, the base image

packages:
	@.ci/packages

base: $(INSTALLED) packages
	$(BIN)/python -m images base

demo: setup ## start Samovar, deploy the examples, run them for real (KEEP=1 leaves it running, to look at)
	$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

# One process more than cores, since many tests wait for containers; modules stay whole, and in their order.
WORKERS = $(shell n=$$(nproc 2>/dev/null || echo 1); [ $$n -gt 3 ] && echo 4 || echo $$((n + 1)))

test: setup ## the whole test suite, on all cores
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder

test-long: setup ## the random histories, many of them (a quarter of an hour)
	SAMOVAR_TEST_EXAMPLES=5000 $(BIN)/python -m pytest --timeout 3600 tests/conformance/test_machine.py
	SAMOVAR_TEST_TIMES=5 $(BIN)/python -m pytest --timeout 600 tests/conformance/history/test_folding.py tests/unit/sdk/test_schema_agrees.py

claim-race: setup ## claims and cancels that race in many processes, in large numbers (a quarter of an hour)
	$(BIN)/python -m tests.race

isolation-mutants: setup ## switch each control of isolation off and see that the tests notice
	$(BIN)/python -m tests.security.mutants

fuzz: setup ## made-up input for what hostile code and builds hand in (SAMOVAR_FUZZ_SECONDS each, default 600)
	$(BIN)/python -m tests.security.fuzz

fuzz-api: setup ## requests made of the OpenAPI document, none of which may answer 5xx (ten minutes)
	SAMOVAR_FUZZ_SECONDS=$${SAMOVAR_FUZZ_SECONDS:-600} $(BIN)/python -m pytest --timeout 86400 tests/security/test_clients_fuzz.py

soak: setup ## runs of all kinds for half an hour, while containers are killed: nothing may grow
	$(BIN)/python -m tests.soak

pictures: setup ## the pictures of the tour (docs/tour), taken anew by the tests with a browser
	SAMOVAR_TEST_PICTURES=docs/tour $(BIN)/python -m pytest -m browser tests/browser

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
