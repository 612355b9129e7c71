# `make lab` opens the course, `make test` runs every check and test.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help lab check test build docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(READY) ## set up, then open the course in JupyterLab
	@$(BIN)/dltlab lab

check: $(READY) ## set up, then run the static checks
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/dltlab build --check
	@$(BIN)/dltlab lint

# Three workers on two cores: tests of servers and kernels mostly wait.
test: check ## set up, then run the static checks and every test
	@$(BIN)/python -m pytest -n 3 --dist worksteal --cov --cov-report=
	@$(BIN)/python tests/room_coverage.py

build: $(READY) ## build the notebooks from solutions/*.py
	@$(BIN)/dltlab build

docs: $(READY) ## build the site in dist/site; a warning is an error
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d dist/doctrees $(SITE_OPTIONS) docs dist/site
	@echo "The site is dist/site/index.html."

# The environment is set up again only when these files have changed. The marker file is written last,
# so that an interrupted set-up is repeated.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  f"dltlab needs Python 3.11 to 3.13, and {sys.executable} is {v[0]}.{v[1]}: choose another with PYTHON=…")'
	@echo "Step 1 of 3: create the Python environment $(VENV)."
ifdef UV
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@echo "Step 2 of 3: install TensorFlow, JupyterLab and what they need; 3 GB, a minute or more."
	@$(UV) pip install --python $(BIN)/python -r requirements.lock
	@echo "Step 3 of 3: install dltlab."
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
else
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "Step 2 of 3: install TensorFlow, JupyterLab and what they need; 3 GB, three minutes or more."
	@echo "After its last download, pip writes the files for a minute or two and prints nothing."
	@$(BIN)/pip install --disable-pip-version-check -r requirements.lock
	@echo "Step 3 of 3: install dltlab."
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
endif
	@echo "dltlab is set up."
	@touch $@

COMPILE = $(or $(UV),$(BIN)/uv) pip compile pyproject.toml --quiet --upgrade --universal \
  --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: ## rewrite requirements.lock and binder/requirements.txt from pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(if $(UV),,$(BIN)/python -m pip install --quiet uv)
	$(COMPILE) --extra test --extra inference --extra batch --extra pretrained --extra profile --extra workshop --extra science --extra docs \
	  --output-file requirements.lock
	$(COMPILE) --extra inference --extra batch --constraint requirements.lock --output-file binder/requirements.txt
	sed -i.old 's/^tensorflow==/tensorflow-cpu==/' binder/requirements.txt && rm binder/requirements.txt.old

clean: ## remove the environment and caches; never a learner's workspace
	rm -rf $(VENV) dist docs/course docs/files docs/gallery.md docs/reference .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage*
	find dltlab tests solutions -name __pycache__ -type d -prune -exec rm -rf {} +
