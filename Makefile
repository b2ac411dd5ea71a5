# Two commands do everything on a fresh machine: `make demo` shows the main job, `make test` proves it.
PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON) 2>/dev/null))
PYTHON := python3
endif
VENV := .venv
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet

.PHONY: demo test check clean
demo: $(VENV)/.installed  ## Send three generated studies through the whole system and show the results.
	@$(VENV)/bin/vesselq demo $(ARGUMENTS)

test: $(VENV)/.installed-tests  ## Install what the tests need, then run all of them.
	@tests/run $(ARGUMENTS)

check: $(VENV)/.installed-tests  ## Only the checks that take seconds: style, types, architecture.
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && $(VENV)/bin/lint-imports

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "vesselq needs Python 3.11 or 3.12: set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing vesselq into $(VENV) (some minutes the first time) ..."
	@$(PIP) install -c constraints.txt pip
	@$(PIP) install -c constraints.txt -e '.[embedded-redis]'
	@touch $@

$(VENV)/.installed-tests: $(VENV)/.installed
	@$(PIP) install -c constraints.txt --group test
	@touch $@

clean:  ## Remove everything that the targets above made.
	rm -rf $(VENV) artefacts .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
