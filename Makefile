PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint check clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

demo: $(VENV)/demo  ## explain a real review with the embedded model
	@$(BIN)/spex demo

test: $(VENV)/test  ## run the whole test suite
	$(BIN)/python -m pytest -q --numprocesses auto

lint: $(VENV)/test  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test  ## both

clean:  ## remove the environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing spex into $(VENV) (a minute or two, about 1 GB with torch) ..."
	@$(PIP) --editable ".[text]"
	@touch $@

$(VENV)/test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing spex and its test tools into $(VENV) (a minute or two) ..."
	@$(PIP) --editable ".[text,test,lint]"
	@touch $@
