# make demo   set up, start Airflow, retrain twice, show the verdicts, ask the new model a question
# make test   set up and run all tests          make check   ruff, mypy, import contracts
# make up     leave Airflow's UI running        make bench   measure; ONLY=name for one row
PYTHON ?= python3.11
# Test files run side by side; each worker is one process, and starts servers of its own.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OPSTUNE_HOME ?= $(CURDIR)/.opstune
export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A thread that waits for another soon sleeps: spinning, it takes the core that the other one needs (docs/decisions.md).
export GOMP_SPINCOUNT ?= 1000
TOOLS := $(OPSTUNE_HOME)/tools

.PHONY: demo test check bench up down setup constraints clean
.DEFAULT_GOAL := demo

demo: setup
	$(BIN)/python -m opstune_airflow.demo

test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m opstune.bench $(ONLY)

up: setup
	$(BIN)/python -m opstune_airflow.standalone up

down:
	$(BIN)/python -m opstune_airflow.standalone down

setup: $(READY)
	@$(BIN)/python -m opstune.export.converter --tools "$(TOOLS)"

$(READY): requirements.txt constraints.txt pyproject.toml
	@PYTHON=$(PYTHON) ./.ci/tools
	$(PYTHON) -m venv $(VENV)
	@echo "installing what requirements.txt names: several minutes, llama.cpp is compiled"
	$(BIN)/pip install --quiet --requirement requirements.txt --constraint constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/pip check
	@touch $(READY)

constraints:
	@(echo '# Every package of a fresh install of requirements.txt, so that a later one is the same. Written by `make constraints`.'; \
	  $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -v ' @ ') > constraints.txt

clean:
	rm -rf $(VENV) build include/*.egg-info *.egg-info .mypy_cache .ruff_cache .pytest_cache
	@echo "kept: $(OPSTUNE_HOME) (history, models, runs); remove it by hand if it is not wanted"
