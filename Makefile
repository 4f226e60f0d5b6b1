# `make quickstart` and `make test` work on a fresh machine with make and Python 3.11 or newer:
# each sets up .venv by itself. PYTHON names another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# Exact versions: what runs on Python 3.11, and the releases that need 3.12 and newer.
CONSTRAINTS ?= $(shell $(PYTHON) -c 'import sys; print("constraints.txt" if sys.version_info < (3, 12) else "constraints-3.12.txt")' 2>/dev/null || echo constraints.txt)
# Installed once for each change of what is asked for.
ASKED := pyproject.toml $(CONSTRAINTS)

.PHONY: quickstart check test test-shapes test-slow test-newest test-oldest fuzz docs lint benchmarks release-check clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/.train
	$(BIN)/python -m train.quickstart

# Before a commit, under two minutes: lint, types, import circles, one call of every public name with
# the shapes of every signature checked.
check: lint
	CHECK_SHAPES=1 $(BIN)/python -m pytest -n auto tests/test_imports.py tests/test_import_circles.py tests/test_public_names.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

# The suite with every shape in a signature of jacreg and models checked at every call.
test-shapes: $(VENV)/.dev
	CHECK_SHAPES=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(TESTS)

# The suite on the newest releases that can be had, unpinned, and on the oldest that are supported.
NEWEST ?= $(firstword $(foreach each,python3.13 python3.12,$(shell $(each) -c "" 2>/dev/null && echo $(each))) $(PYTHON))
test-newest:
	@$(MAKE) --no-print-directory install PYTHON=$(NEWEST) VENV=$(VENV)-newest CONSTRAINTS=/dev/null
	$(VENV)-newest/bin/python -m pytest -n auto --dist worksteal -m "not slow" $(TESTS)

test-oldest:
	@$(MAKE) --no-print-directory install VENV=$(VENV)-oldest CONSTRAINTS=constraints-oldest.txt
	$(VENV)-oldest/bin/python -m pytest -n auto --dist worksteal -m "not slow" $(TESTS)

# What a release holds: wheel and source distribution built, installed alone, tried outside the checkout.
release-check: $(VENV)/.dev
	$(BIN)/python tests/release.py

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# Random programs against their dense Jacobians; each find is printed with its seed and its text.
SECONDS ?= 600
fuzz: $(VENV)/.dev
	$(BIN)/python -m benchmarks.fuzz --seconds $(SECONDS)

# The site, into site/; a broken link or reference fails the build.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Beside the peers, in an environment of their own (PyTorch is large); the tables go into the pages.
PEERS := $(VENV)-peers
benchmarks: $(PEERS)/.peers
	$(PEERS)/bin/python -m benchmarks --page docs/benchmarks.md --page README.md

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
		--constraint $(CONSTRAINTS) --editable ".[$(EXTRA)]"
else
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet $(if $(filter dev,$(EXTRA)),--compile-bytecode) --python $(BIN)/python \
		--constraint $(CONSTRAINTS) --editable ".[$(EXTRA)]"
endif

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-oldest .jax_cache .pytest_cache .ruff_cache site
