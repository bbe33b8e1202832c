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
ONE_THREAD := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: help setup study test quick lint browser bench clean

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

lint: .venv/ready ## style, types and walls
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	$(BIN)/traitrl check

quick: .venv/ready lint ## lint and the fast tests, without torch
	$(ONE_THREAD) $(BIN)/pytest -m "not slow and not gpu and not live"

browser: # the report is opened in a real browser; Debian and Ubuntu name differ, either will do
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		{ echo "installing chromium for the browser test"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; }

test: .venv/ready browser lint ## every check: lint, types, walls, all tests that need no GPU and no network
	$(ONE_THREAD) $(BIN)/pytest -m "not gpu and not live"

bench: .venv/ready ## measure against bare TRL and bare Inspect, write docs/benchmarks.md
	$(ONE_THREAD) $(BIN)/python benchmarks/run.py

clean: ## remove the environment and caches; runs/ stays
	rm -rf .venv build *.egg-info src/*.egg-info .pytest_cache .ruff_cache .hypothesis
