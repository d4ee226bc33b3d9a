# make install · make demo · make test · make check · make docs: each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= outputs/demo

.PHONY: install demo test check docs slow

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] < (3, 14); sys.exit(0 if ok else f"Python 3.11 to 3.13 is needed, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@echo "installing the packages of requirements.lock into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(VENV)/.installed

# The losses side by side on real data, in a folder of its own so that it does not find our published rows done.
demo: $(VENV)/.installed
	@$(BIN)/synthweight sweep demo paths.outputs=$(DEMO)
	@$(BIN)/synthweight tables demo paths.outputs=$(DEMO)

test: $(VENV)/.installed
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

check: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy
	@$(BIN)/synthweight tables --check
	@$(BIN)/python docs/build.py

# The documentation site, into site/.
docs: $(VENV)/.installed
	@$(BIN)/python docs/build.py

slow: $(VENV)/.installed
	@$(BIN)/python -m pytest -m slow
