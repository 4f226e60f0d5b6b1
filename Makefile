# `make quickstart` and `make test` work on a fresh machine with make and Python 3.11 or newer:
# each sets up .venv by itself. PYTHON names another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# Installed once for each change of what is asked for.
ASKED := pyproject.toml constraints.txt

.PHONY: quickstart test test-slow docs lint benchmarks clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/.train
	$(BIN)/python -m train.quickstart

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# The site, into site/; a broken link or reference fails the build.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Beside the peers, in an environment of their own (PyTorch is large); the table goes into README.
PEERS := $(VENV)-peers
benchmarks: $(PEERS)/.peers
	$(PEERS)/bin/python -m benchmarks --readme README.md

$(PEERS)/.peers: $(ASKED)
	@$(MAKE) --no-print-directory install EXTRA=peers VENV=$(PEERS)
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

$(VENV)/.train: $(ASKED)
	@$(MAKE) --no-print-directory install EXTRA=train
	@touch $@

$(VENV)/.docs: $(ASKED)
	@$(MAKE) --no-print-directory install EXTRA=docs
	@touch $@

$(VENV)/.dev: $(ASKED)
	@$(MAKE) --no-print-directory install EXTRA=dev
	@touch $(VENV)/.train $(VENV)/.docs $@

# The suite starts many interpreters, so its packages are compiled once; one run compiles as it goes.
.PHONY: install
EXTRA ?= dev
install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing jacreg[$(EXTRA)] into $(VENV) ..."
ifeq ($(UV),)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(filter dev,$(EXTRA)),,--no-compile) \
		--constraint constraints.txt --editable ".[$(EXTRA)]"
else
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet $(if $(filter dev,$(EXTRA)),--compile-bytecode) --python $(BIN)/python \
		--constraint constraints.txt --editable ".[$(EXTRA)]"
endif

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache site
