# MetaMimic: `make train` shows that it works, `make test` that it still does. Each does
# its own set-up. `make help` lists the rest.

# What `make train` runs; for example `make train TASK=stack_2_bricks RUN=runs/mine
# ARGS='--seed 1 --learner-steps 100000'`.
TASK ?= lift_brick
RUN ?= runs/$(TASK)
PRESET ?= laptop
ARGS ?=
DEMONSTRATIONS ?= data/$(TASK).hdf5
# How many are recorded, where there is no such file and none is named (a mistyped name is
# refused by the launcher); more of the task with eight skills.
RECORDED = --train 500 --valid 50
RECORDED_two_bricks = --train 800 --valid 160
# An interpreter for the set-up to use instead of looking for Python 3.10.
export PYTHON

PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup check train test lint format pytest bazel-test test-cluster vertex \
  test-vertex lock clean

help:  ## this list
	@echo 'Usage: make TARGET'
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile
	@echo 'Variables of train: TASK=$(TASK) RUN=$(RUN) PRESET=$(PRESET) ARGS=$(ARGS)'
	@echo '  DEMONSTRATIONS=$(DEMONSTRATIONS)'
	@echo '  (settings for ARGS: $(PY) -m launch_configs.local --help)'

setup:  ## make .venv from requirements.txt, unless it is there
	@scripts/setup.sh

check: setup  ## print the versions and what does not fit this machine
	$(PY) -m metamimic.check

train: check  ## record demonstrations, train on them, report; again: resume
ifeq ($(origin DEMONSTRATIONS),file)
	test -e $(DEMONSTRATIONS) || $(PY) -m metamimic.record --task $(TASK) \
	  --output $(DEMONSTRATIONS) $(or $(RECORDED_$(TASK)),$(RECORDED)) --seed 0
endif
	$(PY) -m launch_configs.local --preset $(PRESET) --run-dir $(RUN) \
	  --demonstrations $(DEMONSTRATIONS) $(ARGS)

results-%: setup  ## (results-lift_brick, ...) one experiment, all its seeds; what is done in runs/ is kept
	$(PY) -m benchmarks.results $*

test: check lint pytest  ## every check: formatter, linter, types, tests

lint: setup  ## formatter (checked only), linter, type checker
	$(PY) -m ruff format --check --output-format concise
	$(PY) -m ruff check
	$(PY) -m mypy

format: setup  ## let the linter and the formatter change the files
	$(PY) -m ruff check --fix-only
	$(PY) -m ruff format

pytest: setup  ## the tests alone
	$(PY) -m pytest -q

bazel-test: setup  ## the same tests through Bazel (apt-get install bazel-bootstrap)
	PATH="$(CURDIR)/.venv/bin:$$PATH" bazel test //...

test-cluster: setup  ## a run on a Slurm of three virtual hosts that are lost; as root
	$(PY) -m pytest -s tests/cluster/three_hosts.py

vertex: setup  ## install what submits to Vertex AI
	$(PY) -m uv pip install --quiet --python $(PY) --no-deps -r requirements-vertex.txt

test-vertex: vertex  ## a submission to Vertex AI up to what leaves this machine
	$(PY) -m pytest -s tests/vertex/submission.py

LOCK = $(PY) -m uv pip compile --quiet --custom-compile-command 'make lock' \
  --python-version 3.10 --python-platform x86_64-manylinux_2_28 $(ARGS)

lock: setup  ## write requirements*.txt anew from requirements*.in
	$(LOCK) --override requirements-overrides.txt --output-file requirements.txt \
	  requirements.in
	$(LOCK) --constraint requirements.txt --output-file requirements-vertex.txt \
	  requirements-vertex.in

clean:  ## remove caches (not .venv, data or runs)
	rm -rf build .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
	if command -v bazel > /dev/null; then bazel clean; fi

# `make -j` must not run the checks of one command at once: their output would mix.
.NOTPARALLEL:
