# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint env clean

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml scripts/setup-env
	@PYTHON="$(PYTHON)" scripts/setup-env "$(VENV)"
	@touch $@

demo: env ## fill a hole in a real source file and show it
	@$(BIN)/python scripts/demo.py

test: env lint ## everything that must hold, in under ten minutes on two cores
	$(BIN)/python -m pytest

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
