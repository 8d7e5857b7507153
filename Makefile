# On a fresh machine: `make demo` to see it work, `make quick` while editing, `make test` before a commit.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help env demo quick fast lint format test fuzz dev \
        release test-editors test-emacs test-neovim test-vscode latency-editors clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(VENV)/.ready ## create .venv and install everything that demo and tests need

$(VENV)/.ready: pyproject.toml scripts/setup-env
	@PYTHON="$(PYTHON)" scripts/setup-env "$(VENV)"
	@touch $@

demo: env ## fill holes in real source files, with a real language server
	@$(BIN)/python scripts/demo.py

quick: env ## lint, and the tests not marked slow: under a minute on two cores
	@$(MAKE) --no-print-directory lint fast

fast: env ## the tests not marked slow
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile --ignore=tests/editors

lint: env ## ruff, formatting, and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: env lint ## lint, and all tests but the editors': under ten minutes on two cores
	$(BIN)/python -m pytest --ignore=tests/editors

fuzz: env ## 50,000 malformed, reordered and cancelled messages against the real server, and a remote with odd answers
	$(BIN)/python tests/support/fuzz.py --messages 50000
	$(BIN)/python tests/support/fuzz_remote.py --requests 5000

release: env ## wheel, VSIX, Neovim plugin, checksums and notes, into dist/release
	PYTHON="$(BIN)/python" scripts/release dist/release

dev: env ## add pre-commit and debugpy, and run lint before every commit
	$(BIN)/python -m pip --disable-pip-version-check install -q -e '.[dev]'
	$(BIN)/pre-commit install

test-editors: test-neovim test-vscode test-emacs ## the plugins in real editors

test-emacs: env ## the Emacs package in the Emacs on PATH or in FIM_EMACS; skipped without one
	$(BIN)/python -m pytest tests/editors/emacs

test-neovim: env ## the Neovim plugin in Neovim 0.12 and 0.11, fetched into .cache/
	PYTHON="$(BIN)/python" scripts/setup-neovim .cache/neovim
	.cache/neovim/luacheck -q --config editors/neovim/.luacheckrc editors/neovim tests/editors/neovim
	$(BIN)/python -m pytest tests/editors/neovim

# scripts/setup-vscode installs a Node here if the system's is not the version that the workbench needs.
NODE := PATH="$(CURDIR)/.cache/node/node_modules/.bin:$$PATH"

test-vscode: env ## the VS Code extension: schema, types, lint, VSIX, unit tests, a real workbench
	$(BIN)/python editors/vscode/scripts/settings_schema.py --check
	scripts/setup-vscode
	cd editors/vscode && $(NODE) FIM_PYTHON="$(abspath $(BIN))/python" npm test --silent

latency-editors: env ## measure key to visible ghost text in each editor, into docs/benchmarks.md
	PYTHON="$(BIN)/python" scripts/setup-neovim .cache/neovim
	scripts/setup-vscode
	rm -f .cache/neovim/latency-*.json .cache/vscode-test/latency.json
	FIM_LATENCY_ROUNDS=12 $(BIN)/python -m pytest -q tests/editors/neovim -k keystroke_to_ghost_text
	cd editors/vscode && $(NODE) npm run --silent package && \
		$(NODE) FIM_LATENCY_ROUNDS=12 FIM_PYTHON="$(abspath $(BIN))/python" npm run --silent latency
	$(BIN)/python scripts/editor-latency docs/benchmarks.md

clean: ## remove the virtual environment and the tools' caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
