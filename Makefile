# foldbench: `make run` and `make test` are all that is needed; both set up what they need first.
# Without an NVIDIA GPU, `make run CPU=1` saves 5 GB.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
INPUTS := setup.py pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Wheels of PyTorch and ONNX Runtime without CUDA, in the versions of constraints.txt.
# Once chosen, the environment keeps them.
CPU ?= $(wildcard $(VENV)/.cpu)
pinned = $(shell sed -n 's/^$(1)==\([^ ;]*\).*/$(1)==\1+cpu/p' constraints.txt)
export FOLDBENCH_CPU = $(CPU)
WHEELS := $(if $(CPU),--extra-index-url https://download.pytorch.org/whl/cpu \
	$(call pinned,torch) $(call pinned,torchvision))

.PHONY: help run test lint check clean

help:  ## show the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1: /'

run: $(VENV)/.installed  ## train, fold, export, compare and report on the embedded digits
	$(BIN)/bench run digits

test: $(VENV)/.installed-test  ## run the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-lint  ## check format, style, types and the wording of the docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/wording.py
	$(BIN)/proselint check --config .proselintrc.json README.md CONTRIBUTING.md CHANGELOG.md docs

check: lint test  ## all that has to pass before a change lands

clean:  ## remove the virtual environment and caches, keep the runs
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "foldbench needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
		"Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(INSTALL) $(WHEELS) -e .
	@touch $@ $(if $(CPU),$(VENV)/.cpu)

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) $(WHEELS) -e '.[test]'
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(INSTALL) -e '.[lint]'
	@touch $@
