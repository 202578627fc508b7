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

# Compiled modules are kept: without them every worker of the tests, and every command they start, compiles all anew.
export PYTHONDONTWRITEBYTECODE :=

SETUP := $(VENV)/.setup
DEV   := $(VENV)/.setup-dev
DOCS  := $(VENV)/.setup-docs

.PHONY: setup demo test test-slow test-all check docs ray-install label-studio label-studio-install llm llm-serve test-llm clean

setup: $(SETUP)  ## make .venv with the `holmes` command in it

$(SETUP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}; set PYTHON=" if v < (3, 11) else 0)'
	@echo "setting up $(VENV): some minutes once, nothing when run again"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[train,serve,api]'
	@touch $@

$(DEV): $(SETUP)
	@echo "adding the tools for tests and checks"
	@$(PIP) --editable '.[dev]'
	@touch $@

$(DOCS): $(SETUP)
	@echo "adding the tools for the documentation"
	@$(PIP) --editable '.[docs]'
	@touch $@

demo: $(SETUP)  ## sample CCTV and clicks, dataset, sampler, LoRA, detection on held-out videos: the whole loop
	@$(BIN)/holmes demo

test: $(DEV)  ## the quick unit tests, one process per core
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-slow: $(DEV)  ## whole builds and trainings, and the tests against real servers, a file a process
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "(slow or integration) and not gpu and not llm"

test-all: test test-slow  ## both

check: $(DEV)  ## lint, format, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

ray-install: $(DEV)  ## add Ray, for builds on a cluster; the tests against it skip without it
	@$(PIP) --editable '.[dev,ray]'

docs: $(DOCS)  ## the documentation in site/, commands and settings taken from the code; needs no network
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "documentation: site/index.html"

STUDIO      := .venv-label-studio
STUDIO_HOME := $(CURDIR)/.label-studio
STUDIO_PORT ?= 8080

label-studio: $(STUDIO)/.setup  ## a Label Studio server on the loopback; LABEL_STUDIO_USERNAME, _PASSWORD and _USER_TOKEN name its user
	@: "$${LABEL_STUDIO_USERNAME:?set LABEL_STUDIO_USERNAME, an e-mail address}"
	@: "$${LABEL_STUDIO_PASSWORD:?set LABEL_STUDIO_PASSWORD}"
	@: "$${LABEL_STUDIO_USER_TOKEN:?set LABEL_STUDIO_USER_TOKEN, 40 hex digits, such as of openssl rand -hex 20}"
	@mkdir -p "$(STUDIO_HOME)/data" "$(STUDIO_HOME)/files"
	@LABEL_STUDIO_BASE_DATA_DIR="$(STUDIO_HOME)/data" \
	 LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true \
	 LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK=true \
	 LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true \
	 LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT="$${LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT:-$(STUDIO_HOME)/files}" \
	 COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false SENTRY_DSN= FRONTEND_SENTRY_DSN= \
	 $(STUDIO)/bin/label-studio start --no-browser --internal-host 127.0.0.1 --port $(STUDIO_PORT)

label-studio-install: $(STUDIO)/.setup  ## install that server; the tests against it skip without it

# its pins fight with ours, so it has an environment of its own
$(STUDIO)/.setup:
	@echo "setting up $(STUDIO): some minutes and 1 GB once"
	@$(PYTHON) -m venv $(STUDIO)
	@$(STUDIO)/bin/pip install --quiet --disable-pip-version-check label-studio==1.23.2
	@touch $@

LLM      := .venv-llm
LLM_HOME := .llm
LLM_PORT ?= 8001

llm: $(LLM)/.setup  ## fetch a small language model and a server for it, 1.1 GB once; starts nothing
	@$(LLM)/bin/python tests/helpers/llama_model.py fetch $(LLM_HOME)

llm-serve: llm  ## serve that model on the loopback: an OpenAI-compatible endpoint without a key
	@$(LLM)/bin/python tests/helpers/llama_model.py serve $(LLM_HOME) --port $(LLM_PORT)

test-llm: $(DEV) llm  ## a build and a judge with that model, some minutes
	@$(BIN)/python -m pytest -m llm -s

# for tests and trials alone: no dependency of ours
$(LLM)/.setup:
	@$(PYTHON) -m venv $(LLM)
	@$(LLM)/bin/pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549
	@touch $@

clean:  ## remove what was set up and the demo's output
	rm -rf $(VENV) demo site
