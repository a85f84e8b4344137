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
