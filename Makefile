# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test fuzz test-editors test-neovim test-vscode latency-editors \
        lint env clean

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml scripts/setup-env
	@PYTHON="$(PYTHON)" scripts/setup-env "$(VENV)"
	@touch $@

demo: env ## fill a hole in a real source file and show it
	@$(BIN)/python scripts/demo.py

test: env lint ## everything that must hold, in under ten minutes on two cores
	$(BIN)/python -m pytest --ignore=tests/editors

fuzz: env ## a client without manners against the real server
	$(BIN)/python tests/support/fuzz.py --messages 50000

test-neovim: env ## the Neovim plugin in Neovim 0.12 and 0.11, fetched into .cache/
	PYTHON="$(BIN)/python" scripts/setup-neovim .cache/neovim
	.cache/neovim/luacheck -q --config editors/neovim/.luacheckrc editors/neovim tests/editors/neovim
	$(BIN)/python -m pytest tests/editors/neovim

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-editors: test-neovim test-vscode ## the plugins in real editors

# Where the system's Node is not the one that the workbench needs, scripts/setup-vscode puts it there.
NODE := PATH="$(CURDIR)/.cache/node/node_modules/.bin:$$PATH"

test-vscode: env ## the VS Code extension: schema, types, lint, VSIX, unit tests, a real workbench
	$(BIN)/python editors/vscode/scripts/settings_schema.py --check
	scripts/setup-vscode
	cd editors/vscode && $(NODE) FIM_PYTHON="$(abspath $(BIN))/python" npm test --silent

latency-editors: env ## from a key to visible ghost text in each editor, written to docs/benchmarks.md
	PYTHON="$(BIN)/python" scripts/setup-neovim .cache/neovim
	scripts/setup-vscode
	rm -f .cache/neovim/latency-*.json .cache/vscode-test/latency.json
	FIM_LATENCY_ROUNDS=12 $(BIN)/python -m pytest -q tests/editors/neovim -k keystroke_to_ghost_text
	cd editors/vscode && $(NODE) npm run --silent package && \
		$(NODE) FIM_LATENCY_ROUNDS=12 FIM_PYTHON="$(abspath $(BIN))/python" npm run --silent latency
	$(BIN)/python scripts/editor-latency docs/benchmarks.md

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
