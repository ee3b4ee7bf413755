# The project's verbs. Each one does its own set-up: on a machine with Python 3.11 to 3.13, git and make, `make demo` is enough.
#
#   setup       .venv with everything in requirements.lock, and this project editable; quick when nothing changed
#   demo        the train pipeline on real reviews, killed in the middle of an epoch and resumed
#   test        lint, then every test that is not slow
#   test-slow   the tests of minutes: kills, real servers
#   torture     faults by hundreds, results added to docs/reliability.md; CARRYOVER_TORTURE_* say how many of each
#   lint        ruff (lint and format), import-linter, basedpyright
#   format      let ruff mend what it can
#   bench       measurements, as JSON under build/bench/
#   quality     models on small real data, three seeds each, as docs/quality.md; goes on where it was cut short
#   docs        write generated pages anew: docs/recipe.md, READMEs of components, compiled pipelines
#   lock        write requirements.lock anew from pyproject.toml; `make lock UPGRADE=--upgrade` takes newer versions

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow torture lint format bench quality docs lock

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?=
LOCK := requirements.lock
# Two cores are soon full of threads that wait for each other; no hub is asked.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(READY)

$(READY): $(LOCK) pyproject.toml setup.py tools/make_venv.sh
	sh tools/make_venv.sh $(VENV) $(LOCK) $(PYTHON)
	touch $@

demo: setup
	$(BIN)/python -m examples.demo

test: lint
	$(BIN)/python -m pytest -m "not slow and not torture"

test-slow: setup
	$(BIN)/python -m pytest -m "slow and not torture"

TORTURE := $(foreach name,$(filter CARRYOVER_TORTURE_%,$(.VARIABLES)),$(if $(filter environment command,$(firstword $(origin $(name)))),$(name)=$($(name))))
torture: setup
	CARRYOVER_TORTURE_COMMAND="$(strip $(TORTURE) make torture)" $(BIN)/python -m pytest -m torture tests/torture tests/slow; \
		status=$$?; $(BIN)/python -m tools.reliability_page; exit $$status

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m benchmarks.first_step

quality: setup
	$(BIN)/python -m benchmarks.quality.run

docs: setup
	$(BIN)/python -m tools.recipe_page
	$(BIN)/python -m tools.reliability_page
	$(BIN)/python -m benchmarks.quality.run --page-only
	$(BIN)/python -m carryover_kfp.readme
	for name in train extend transfer continuous; do $(BIN)/carryover compile $$name -o pipelines/$$name/pipeline.yaml; done

lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra kfp --extra demo --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header $(UPGRADE) -o $(LOCK)
