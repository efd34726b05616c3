# `make demo` runs the main job on real data, `make test` everything that must hold. Each works alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One more than there are processors: half of what a session does is to wait for its own children.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: demo test lint bench clean

demo: $(STAMP)
	$(BIN)/python benchmarks/demo.py

test: lint
	$(BIN)/python prepare.py
# Hundreds of child processes import the package; where PYTHONDONTWRITEBYTECODE is set, each would compile it.
	$(BIN)/python -m compileall -q pytest_autoresearch
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python prepare.py
	$(BIN)/python benchmarks/overhead.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .autoresearch data out results.tsv progress.png .coverage .coverage.* htmlcov
