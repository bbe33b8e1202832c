# One command each: `make study`, `make test`. Everything lives in .venv; nothing is installed outside it.
#
# On a machine without a GPU, torch's default build for Linux brings gigabytes of CUDA packages. Give pip the index of PyTorch's
# CPU builds (its install page names it) once:   make setup TORCH_INDEX=<index URL>
# When pip is configured with an index or folder that holds a CPU build, plain `make setup` takes that.

PYTHON ?= python3
SEEDS ?= 1
OUT ?= runs/pocket$(if $(filter-out 1,$(SEEDS)),-$(SEEDS)-seeds)
TORCH_INDEX ?=
BIN := .venv/bin
# Two processes. A file stays in one, since its tests share small studies; files go out in the order of tests/conftest.py.
# Compiled files are kept, whatever the environment says: tests start many processes, and each would compile the house anew.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup study test quick lint style types fast all-tests browser bench clean

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: .venv/ready ## make .venv and install the locked dependencies

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

study: .venv/ready ## run (or continue) the whole study on the pocket world
	$(BIN)/traitrl study run pocket --out $(OUT) --seeds $(SEEDS)

lint: style types ## style, walls, data files and types

style: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache
	$(BIN)/traitrl check

types: .venv/ready
	$(BIN)/pyright --pythonpath $(BIN)/python

quick: style ## lint and the fast tests, without torch
	@$(MAKE) --no-print-directory --jobs 2 types fast

fast: .venv/ready
	$(PYTEST) -m "not slow and not gpu and not live"

browser: # the report is opened in a real browser; Debian and Ubuntu name differ, either will do
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		{ echo "installing chromium for the browser test"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; }

test: browser style ## every check: lint and all tests that need no GPU and no network
	@$(MAKE) --no-print-directory --jobs 2 types all-tests

all-tests: .venv/ready
	$(PYTEST) -m "not gpu and not live"

bench: .venv/ready ## measure against bare TRL and bare Inspect, write docs/benchmarks.md
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python benchmarks/run.py

clean: ## remove the environment and caches; runs/ stays
	rm -rf .venv build *.egg-info src/*.egg-info .pytest_cache .ruff_cache .hypothesis
