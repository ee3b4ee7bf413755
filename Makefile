# The project's verbs. Each one does its own set-up: on a machine with Python 3.11 to 3.13, git and make, `make demo` is enough.
#
#   setup       .venv with everything in requirements.lock, and this project editable; quick when nothing changed
#   detection   the extra `detection` in it: mmdet, and mmcv built from its source, once (minutes)
#   demo        the train pipeline on real reviews, killed in the middle of an epoch and resumed
#   test        lint, then every test that is not slow, in two processes (WORKERS=4 for more)
#   test-slow   the tests of minutes: kills, real servers; in two processes too
#   test-catalog     the four pipelines as kubeflow/pipelines-components would run them
#   test-containers  the image built and run in podman, as root: killed, interrupted, locked (half an hour the first time)
#   torture     faults by hundreds, results added to docs/reliability.md; CARRYOVER_TORTURE_* say how many of each
#   lint        ruff (lint and format), import-linter, basedpyright
#   format      let ruff mend what it can
#   bench       all measurements beside other programs', hours; results in benchmarks/results, and docs/performance.md of them
#   bench-quick the same with few repeats and short runs, to see that all works: build/bench
#   quality     models on small real data, three seeds each, as docs/quality.md; goes on where it was cut short
#   images      the image that all runs in: make images TARGETS="cuda detection" ARGS="--name registry/team/carryover"
#   manifests   render all overlays, hold them against schemas: make manifests SCHEMAS=DIR
#   docs        write generated pages anew (recipe, commands, components, pipelines, READMEs), then the site: build/site
#   lock        write all locks anew from pyproject.toml; `make lock UPGRADE=--upgrade` takes newer versions

.DEFAULT_GOAL := help
.PHONY: help setup detection demo test test-slow test-catalog test-containers torture lint format bench bench-quick quality images manifests docs lock

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?=
LOCK := requirements.lock
DETECTION := requirements-detection.lock
LOCKING := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
# Two cores are soon full of threads that wait for each other; no hub is asked.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(READY)

$(READY): $(LOCK) pyproject.toml setup.py tools/make_venv.sh
	sh tools/make_venv.sh $(VENV) $(LOCK) $(PYTHON)
	touch $@

detection: $(VENV)/.detection

$(VENV)/.detection: $(READY) $(DETECTION) tools/make_detection.sh
	sh tools/make_detection.sh $(VENV) $(DETECTION) build/wheels
	touch $@

demo: setup
	$(BIN)/python -m examples.demo

# A file's tests stay together: they share models and stores that are made once.
WORKERS ?= 2
test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not torture and not containers"

test-slow: detection
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "slow and not torture" tests components

# What tests/authoring runs more closely, once more as the catalog would run it.
test-catalog: setup
	$(BIN)/python -m pytest -m slow pipelines

test-containers: setup
	$(BIN)/python -m pytest -m containers tests/images

TORTURE := $(foreach name,$(filter CARRYOVER_TORTURE_%,$(.VARIABLES)),$(if $(filter environment command,$(firstword $(origin $(name)))),$(name)=$($(name))))
torture: detection
	CARRYOVER_TORTURE_COMMAND="$(strip $(TORTURE) make torture)" $(BIN)/python -m pytest -m torture tests/torture tests/slow; \
		status=$$?; $(BIN)/python -m tools.reliability_page; exit $$status

lint: detection
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What cannot be installed or fails has its reason on the page; the rest is measured all the same.
TOPICS ?= step stall bytes throughput resume position scale trainers
bench bench-quick: setup
	-$(BIN)/python -m benchmarks.peers.setup
	failed=0; for topic in $(TOPICS); do $(MEASURED) $(BIN)/python -m benchmarks.$$topic $(QUICK) || failed=1; done; \
		$(MEASURED) $(BIN)/python -m benchmarks.page $(SHOWN) || failed=1; exit $$failed

bench-quick: QUICK := --quick
bench-quick: MEASURED := BENCH_RESULTS=build/bench
bench-quick: SHOWN := --page build/bench/performance.md

quality: detection
	$(BIN)/python -m benchmarks.quality.run

TARGETS ?= cuda
ARGS ?=
images: setup
	$(BIN)/python -m tools.build_images $(TARGETS) $(ARGS)

SCHEMAS ?= ../shared/schemas
manifests: setup
	$(BIN)/python -m tools.manifests --schemas $(SCHEMAS)

docs: detection
	$(BIN)/python -m tools.recipe_page
	$(BIN)/python -m tools.reliability_page
	$(BIN)/python -m benchmarks.quality.run --page-only
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m carryover_kfp.readme
	for name in train extend transfer continuous; do $(BIN)/carryover compile $$name -o pipelines/$$name/pipeline.yaml; done
	$(BIN)/python -m tools.component_pages
	$(BIN)/python -m tools.command_page
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Detection has a lock of its own, on top of the other: nobody else needs its packages, or a compiler.
# mmcv asks for opencv-python, whose wheels need a display's libraries; the headless one has the same modules.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra kfp --extra trainjob --extra mlflow --extra demo --extra docs --extra dev $(LOCKING) $(UPGRADE) -o $(LOCK)
	printf 'opencv-python ; python_version < "3"\n' >$(VENV)/override.txt
	printf 'setuptools<81\n' >$(VENV)/build.txt
	$(BIN)/uv pip compile pyproject.toml --extra kfp --extra trainjob --extra mlflow --extra demo --extra docs --extra dev --extra detection $(LOCKING) $(UPGRADE) \
		--override $(VENV)/override.txt --build-constraints $(VENV)/build.txt -c $(LOCK) -o $(VENV)/all.lock
	$(BIN)/python tools/lock_rest.py $(VENV)/all.lock $(LOCK) >$(DETECTION)
	sh images/lock.sh $(VENV)
