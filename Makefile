# Needs only Python 3.11 to 3.13 with venv and pip, and make. `make` alone lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The rest of bench/ is what these share.
BENCHES := $(filter-out bench/harness.py bench/bare_libtorrent.py,$(wildcard bench/*.py))

.PHONY: help venv demo test quick lint bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    package, seed, damage, resolve and repair on this machine, and tell the story"
	@echo "make test    the whole test suite"
	@echo "make quick   the suite without slow and integration tests"
	@echo "make lint    ruff, mypy and the import rules"
	@echo "make bench   the measurements that docs/performance.md quotes (takes a while)"
	@echo "make docs    write the generated parts of docs/ anew"
	@echo "make venv    only install into $(VENV)"

# The stamp is newer than pyproject.toml once everything is installed; an install that fails leaves no stamp.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

venv: $(VENV)/.installed

demo: venv
	$(BIN)/libreseed demo

test: venv
	$(BIN)/python -m pytest

quick: venv
	$(BIN)/python -m pytest -m "not slow and not integration"

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv
	@set -e; for script in $(BENCHES); do echo "== $$script"; $(BIN)/python "$$script"; done

docs: venv
	$(BIN)/python -m libreseed.testing.reason_table docs/specification/errors.md

clean:
	rm -rf $(VENV) build dist *.egg-info
