# `make lab` opens the course, `make test` runs every check and test.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
READY := $(VENV)/.ready
# TensorFlow's build without CUDA has half the size; there are wheels of it for this platform only.
PLATFORM := $(shell uname -sm | tr ' ' -)
TENSORFLOW := $(if $(filter-out Linux-x86_64,$(PLATFORM))$(shell command -v nvidia-smi),tensorflow,tensorflow-cpu)
OTHER_BUILD := $(filter-out $(TENSORFLOW),tensorflow tensorflow-cpu)
# Where Python writes no compiled files, each process would compile TensorFlow again; pip always does.
COMPILE_BYTECODE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' dltlab/__init__.py)

.DEFAULT_GOAL := help
.PHONY: help lab check test build docs release image lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

RELEASE := dist/release
INSTALLED := dist/installed
# What may be installed with dltlab; namex, of Keras' authors and Apache-2.0, does not tell its license.
LICENSES := --from=mixed --format=markdown --order=license --partial-match --ignore-packages namex \
  --allow-only='MIT;BSD;Apache;ISC;PSF;Python Software Foundation;MPL;Mozilla;0BSD;HPND;Unlicense;Public Domain'
USER_EXTRAS := inference batch pretrained profile science workshop

# What is published: the wheel, and the pins with hashes that install it. The wheel is then installed
# with them as a user would, in an environment without anything else, which is listed and checked.
release: docs ## make and check what is published, in dist/release
	@rm -rf $(RELEASE) $(INSTALLED)
	@$(BIN)/python -m build --no-isolation --outdir $(RELEASE)
	@$(BIN)/twine check --strict $(RELEASE)/*
	@$(BIN)/check-wheel-contents $(RELEASE)
	@$(HASHED) --output-file $(RELEASE)/requirements.txt
	@$(HASHED) $(USER_EXTRAS:%=--extra %) --output-file $(RELEASE)/image-gpu.txt
	@printf '%s\n' "tensorflow ; python_version < '3'" > dist/without-tensorflow
	@sed -n 's/^tensorflow==/tensorflow-cpu==/p' requirements.lock > dist/tensorflow-cpu
	@$(HASHED) dist/tensorflow-cpu --override dist/without-tensorflow $(USER_EXTRAS:%=--extra %) --output-file $(RELEASE)/image-cpu.txt
	@$(PYTHON) -m venv $(INSTALLED)
	@$(INSTALLED)/bin/pip install --quiet --require-hashes --requirement $(RELEASE)/requirements.txt
	@$(INSTALLED)/bin/pip install --quiet --no-deps --no-index $(RELEASE)/*.whl
	@$(INSTALLED)/bin/pip check
	@$(INSTALLED)/bin/dltlab list
	@sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > dist/pyproject.toml
	@$(BIN)/cyclonedx-py environment --output-reproducible --pyproject dist/pyproject.toml --output-file $(RELEASE)/sbom.json $(INSTALLED)
	@$(BIN)/pip-licenses --python $(INSTALLED)/bin/python $(LICENSES) --output-file $(RELEASE)/licenses.md
	@$(BIN)/pip-audit --path $$($(INSTALLED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || \
	  echo "The audit found something, or could not ask for known vulnerabilities: see above."
	@cd $(RELEASE) && sha256sum * > SHA256SUMS
	@echo "The release is in $(RELEASE)."

image: ## build the container image, with docker or podman, from `make release`
	@$(or $(shell command -v docker || command -v podman),$(error docker or podman is needed)) build \
	  --tag dltlab:$(VERSION) --tag dltlab $(if $(BASE),--build-arg BASE=$(BASE)) $(if $(PINS),--build-arg PINS=$(PINS)) .

# The environment is set up again only when these files have changed. The marker file is written last,
# so that an interrupted set-up is repeated.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  f"dltlab needs Python 3.11 to 3.13, and {sys.executable} is {v[0]}.{v[1]}: choose another with PYTHON=…")'
	@echo "Step 1 of 3: create the Python environment $(VENV)."
ifdef UV
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@echo "Step 2 of 3: install TensorFlow, JupyterLab and what they need; 3 GB, a minute or more."
	@sed 's/^tensorflow==/$(TENSORFLOW)==/' requirements.lock > $(VENV)/pins.txt
	@$(UV) pip uninstall --quiet --python $(BIN)/python $(OTHER_BUILD)
	@$(UV) pip install $(COMPILE_BYTECODE) --python $(BIN)/python -r $(VENV)/pins.txt
	@echo "Step 3 of 3: install dltlab."
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
else
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "Step 2 of 3: install TensorFlow, JupyterLab and what they need; 3 GB, three minutes or more."
	@echo "After its last download, pip writes the files for a minute or two and prints nothing."
	@sed 's/^tensorflow==/$(TENSORFLOW)==/' requirements.lock > $(VENV)/pins.txt
	@$(BIN)/pip uninstall --quiet --yes $(OTHER_BUILD)
	@$(BIN)/pip install --disable-pip-version-check -r $(VENV)/pins.txt -c $(VENV)/pins.txt
	@echo "Step 3 of 3: install dltlab."
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
endif
	@echo "dltlab is set up."
	@touch $@

COMPILE = $(or $(UV),$(BIN)/uv) pip compile pyproject.toml --quiet --upgrade --universal \
  --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links

HASHED = $(or $(UV),$(BIN)/uv) pip compile pyproject.toml --quiet --universal --python-version 3.11 --no-header \
  --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links --constraint requirements.lock \
  --generate-hashes

lock: ## rewrite requirements.lock and binder/requirements.txt from pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(if $(UV),,$(BIN)/python -m pip install --quiet uv)
	$(COMPILE) --extra test --extra inference --extra batch --extra pretrained --extra profile --extra workshop --extra science --extra docs --extra release \
	  --output-file requirements.lock
	$(COMPILE) --extra inference --extra batch --constraint requirements.lock --output-file binder/requirements.txt
	sed -i.old 's/^tensorflow==/tensorflow-cpu==/' binder/requirements.txt && rm binder/requirements.txt.old

clean: ## remove the environment and caches; never a learner's workspace
	rm -rf $(VENV) dist docs/course docs/files docs/gallery.md docs/reference .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage*
	find dltlab tests solutions -name __pycache__ -type d -prune -exec rm -rf {} +
