# Everything sets itself up: `make demo` and `make test` need Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock

# torch comes from the index that pip is configured with: on Linux that is the CUDA build unless a CPU build is offered.
# A machine without a GPU saves several GB with TORCH_INDEX=<URL of PyTorch's index of CPU builds>.
ifdef TORCH_INDEX
PIP += --extra-index-url $(TORCH_INDEX)
endif

SETUP := $(VENV)/.setup
DEV   := $(VENV)/.setup-dev

.PHONY: setup demo test test-all check clean

setup: $(SETUP)  ## make .venv with the `holmes` command in it

$(SETUP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}; set PYTHON=" if v < (3, 11) else 0)'
	@echo "setting up $(VENV): some minutes once, nothing when run again"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[train,serve]'
	@touch $@

$(DEV): $(SETUP)
	@echo "adding the tools for tests and checks"
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(SETUP)  ## sample CCTV and clicks, dataset, sampler, LoRA, detection on held-out videos: the whole loop
	@$(BIN)/holmes demo

test: $(DEV)  ## the unit tests
	@$(BIN)/python -m pytest

test-all: $(DEV)  ## the unit tests, and the tests against real servers
	@$(BIN)/python -m pytest -m "not gpu"

check: $(DEV)  ## lint, format, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

clean:  ## remove what was set up and the demo's output
	rm -rf $(VENV) demo
