# Every target sets up all that it needs, from a bare checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup
DISTRIBUTIONS := protos engine service operator
INPUTS := pyproject.toml constraints.txt $(DISTRIBUTIONS:%=%/pyproject.toml) \
	engine/CMakeLists.txt $(shell find engine/lepton_engine/kernels/cpu/src -type f)
PYTEST_ARGS ?=
# As lepton_engine sets it, for whatever loads torch first: idle threads soon sleep.
export GOMP_SPINCOUNT ?= 10000

.PHONY: help setup demo test lint bench constraints
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: $(STAMP)  ## .venv with all of it

$(STAMP): $(INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "python3 -m venv failed: Python >= 3.11 with the venv module is needed (Debian: python3-venv)"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --group dev \
		--editable protos --editable engine --editable 'service[server,http]' --editable 'operator[fetch,otlp]'
	@touch $@

demo: setup  ## the server on the embedded model, several clients at once
	$(BIN)/python -m examples.demo

test: setup  ## all tests (the first run builds Kubernetes: some minutes)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup lint-protos  ## format, lint, types, import contracts, the wire contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: setup  ## the figures of README
	$(BIN)/python -m benchmarks

.PHONY: soak
SOAK_ARGS ?=
soak: setup  ## ten minutes of a thousand connections, slow readers and killed clients; SOAK_ARGS=--quick
	$(BIN)/python -m benchmarks.soak $(SOAK_ARGS)

constraints: setup  ## renew the pinned versions within the ranges that the distributions state
	$(BIN)/uv pip install --quiet --python $(BIN)/python --upgrade --group dev \
		--editable protos --editable engine --editable 'service[server,http]' --editable 'operator[fetch,otlp]'
	{ echo "# Versions that the tests pass with; 'make constraints' renews them. Distributions state ranges, this file pins."; \
		$(BIN)/uv pip freeze --python $(BIN)/python | grep -v '^-e' | sort; } > constraints.tmp && mv constraints.tmp constraints.txt

.PHONY: conformance fuzz
conformance: setup  ## other people's suites against the gRPC stack (the first run builds them: some minutes)
	$(BIN)/python -m conformance $(CONFORMANCE_ARGS)

fuzz: setup  ## ten minutes of fuzzing what requests go through; FUZZ_ARGS="--minutes 1"
	$(BIN)/python -m tests.fuzz.convert $(FUZZ_ARGS)

.PHONY: protos protos-baseline lint-protos
protos: setup  ## generated Python of the contract
	$(BIN)/python protos/generate.py

protos-baseline: setup  ## what `lint-protos` holds the contract against; run at a release only
	$(BIN)/buf build protos --exclude-source-info -o protos/lepton.v1.binpb

lint-protos: setup
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/lepton.v1.binpb

.PHONY: chart
chart: setup  ## what charts/lepton holds of the operator, the service, and the comments in its values.yaml
	$(BIN)/python -m charts.generate

.PHONY: images
IMAGES ?= operator server-cpu
images: setup  ## container images, as archives in ~/.cache/lepton/images (needs root); IMAGES=server for the one with CUDA
	$(BIN)/python -m images $(IMAGES)

.PHONY: test-operator
test-operator: setup  ## the operator's tests, on a real control plane (the first run builds Kubernetes: some minutes)
	$(BIN)/python -m pytest tests/operator tests/cluster $(PYTEST_ARGS)

# Uses the interpreter that it is given as it is: nothing is installed, and the rest of this file is not needed.
PY ?= python3
GPU_ARGS ?=
.PHONY: gpu
gpu:  ## check and measure on a machine with a GPU, by PY=python3 as it is; GPU_ARGS="--part decode"
	PYTHONPATH=engine:protos:service:.:$(PYTHONPATH) $(PY) -m benchmarks.gpu $(GPU_ARGS)

# Real nodes on this machine: packages, namespaces, mounts. Debian packages that are missing are named, then installed.
E2E_ARGS ?=
.PHONY: e2e e2e-full root
root:
	@test "$$(id -u)" = 0 || { echo "real nodes need root (namespaces, mounts, cgroups): run this as root"; exit 1; }

e2e: root setup  ## real nodes, images and chart, from install to streams that survive; as root, some minutes
	LEPTON_E2E=quick $(BIN)/python -m pytest tests/images tests/cluster/nodes tests/e2e $(E2E_ARGS)

e2e-full: root setup  ## the same with all streams, rollouts and scale-downs of the figures in docs; about an hour
	LEPTON_E2E=full $(BIN)/python -m pytest tests/images tests/cluster/nodes tests/e2e $(E2E_ARGS)
