# `make demo` and `make test` work on a fresh clone: each makes .venv and installs all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-slow fuzz mutation lint format docs constraints clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'torch>=2.13,<2.14'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/brainage demo --output demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Hours: 10,000 inputs a reader and way. Add ARGUMENTS="--only nifti --inputs 100" for less.
fuzz: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[campaigns]'
	$(BIN)/python -m tests.fuzz.campaign $(ARGUMENTS)

# Twenty minutes: 60 mutants of each package. ARGUMENTS="--sample 0" runs all of them.
mutation: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[campaigns]'
	rm -rf mutants
	$(BIN)/python -m tests.mutation --report docs/benchmarks/mutation.md $(ARGUMENTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python -m pipelines.cli_reference > docs/cli.md

# The image installs these versions: run after a change of dependencies, and run the tests.
constraints: $(STAMP)
	@echo "# Versions that were tested together. Made by: make constraints" > deploy/constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/' >> deploy/constraints.txt

clean:
	rm -rf $(VENV) demo fuzz mutants build dist .pytest_cache .mypy_cache .ruff_cache
