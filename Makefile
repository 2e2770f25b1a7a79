# `make demo` and `make test` work on a fresh clone: each makes .venv and installs all it needs.
# `make install` installs the product alone, `make dev` the developers' tools too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRODUCT := $(VENV)/.product
STAMP := $(VENV)/.installed
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: install dev demo test test-slow fuzz mutation lint format docs lock audit sbom coverage clean

install: $(PRODUCT)

dev: $(STAMP)

$(PRODUCT): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) 'torch>=2.13,<2.14'
	$(PIP) --editable '.[all]'
	touch $(PRODUCT)

$(STAMP): $(PRODUCT)
	$(PIP) --editable '.[dev]'
	touch $(STAMP)

demo: $(PRODUCT)
	$(BIN)/brainage demo --output demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Hours: 10,000 inputs a reader and way. Add ARGUMENTS="--only nifti --inputs 100" for less.
fuzz: $(STAMP)
	$(PIP) --editable '.[campaigns]'
	$(BIN)/python -m tools.fuzz.campaign $(ARGUMENTS)

# Twenty minutes: 60 mutants of each package. ARGUMENTS="--sample 0" runs all of them.
mutation: $(STAMP)
	$(PIP) --editable '.[campaigns]'
	rm -rf mutants
	$(BIN)/python -m tools.mutation --report docs/benchmarks/log/mutation.md $(ARGUMENTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What the image installs: the versions in .venv, which were tested together, with the hashes of all
# files of theirs. Torch comes without: its file is another on each index (CPU, CUDA) and platform.
# Run after a change of dependencies, and run the tests.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command 'make lock'

lock: $(STAMP)
	$(BIN)/pip freeze --exclude-editable | sed -n 's/^\(torch==[0-9.]*\).*/\1/p' > deploy/torch.txt
	$(BIN)/pip freeze --exclude-editable | grep -v '^torch==' > deploy/lock.txt
	$(COMPILE) --extra all --extra server --no-emit-package torch --output-file deploy/lock.txt pyproject.toml
	echo 'hatchling>=1.25' | $(COMPILE) --output-file deploy/lock-build.txt -
	$(BIN)/python deploy/licences.py > docs/reference/licences.md

# What is known against the packages that are locked and installed; see docs/explanation/supply-chain.md.
audit: $(STAMP)
	$(BIN)/python deploy/audit.py

# List of what an environment holds, CycloneDX: make sbom SBOM_OF=/opt/brainage for an installation.
SBOM_OF ?= $(VENV)
sbom: $(STAMP)
	mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
		--output-format JSON --output-file build/sbom.json $(SBOM_OF)

# Lines and branches that tests reach, child processes included. The page, races and several
# processes are run by slow tests alone: half an hour more than the default tests.
SLOW_FOR_COVERAGE := tests/browser/test_app.py tests/browser/test_pictures.py tests/unit/speed \
	tests/unit/training/test_pipelined.py tests/unit/study/test_scans.py tests/unit/report/test_examine.py

coverage: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report= --cov-fail-under=0
	$(BIN)/python -m pytest -m slow $(SLOW_FOR_COVERAGE) --cov --cov-append --cov-report=term:skip-covered

clean:
	rm -rf $(VENV) demo fuzz mutants build dist .pytest_cache .mypy_cache .ruff_cache
