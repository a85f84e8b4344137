# Every target sets up all that it needs, from a bare checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup
DISTRIBUTIONS := protos engine service operator
INPUTS := pyproject.toml constraints.txt $(DISTRIBUTIONS:%=%/pyproject.toml)

.PHONY: setup demo test lint bench
setup: $(STAMP)

$(STAMP): $(INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev \
		--editable protos --editable engine --editable 'service[server]' --editable operator
	@touch $@

.PHONY: protos protos-baseline lint-protos
protos: setup  ## generated Python of the contract
	$(BIN)/python protos/generate.py

protos-baseline: setup  ## what `lint-protos` holds the contract against; run at a release only
	$(BIN)/buf build protos --exclude-source-info -o protos/lepton.v1.binpb

lint-protos: setup
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/lepton.v1.binpb
